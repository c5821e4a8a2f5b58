"""Every implementation of every operation: values and gradients against float64, and how one of them is chosen.

Where Triton can run, on a GPU or in its interpreter (`make test-kernels`), the kernels are among the implementations.
"""

import sys

import pytest
import torch
import torch.nn.functional as F
from kernel_runs import (
    BRAIN,
    DEVICE,
    HALF,
    MIXED,
    OPS,
    SINGLE,
    arguments,
    cases,
    differentiable,
    example,
    implementations,
    run,
    tensors,
    typed,
)
from torch import Tensor
from torch.autograd import forward_ad

from zoo import kernels
from zoo.kernels.op import INTERPRETED

pytestmark = pytest.mark.filterwarnings("ignore:.*[dD]eterministic")  # on a GPU, from `poisoned`


def each(*dtypes):
    """Parametrise a test over all implementations, their cases and these dtypes."""
    found = [
        pytest.param(op, implementation, case, kind, id=f"{op.name}-{implementation}-{case.name}-{kind}")
        for op in OPS
        for implementation in implementations(op)
        for case in cases(op)
        for kind in dtypes
    ]
    return pytest.mark.parametrize(("op", "implementation", "case", "dtypes"), found)


each_op = pytest.mark.parametrize("op", [pytest.param(op, id=op.name) for op in OPS])
each_implementation = pytest.mark.parametrize(
    ("op", "implementation"),
    [pytest.param(op, name, id=f"{op.name}-{name}") for op in OPS for name in implementations(op)],
)


@pytest.fixture
def poisoned():
    """Memory that nobody has written is NaN."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.empty(9).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


def error(found, truth, size):
    """The relative error in norm; relative to `size` where the truth is next to nothing beside it."""
    assert found.isfinite().all()
    norm, off = truth.norm(), (found.double() - truth).norm()
    return (off / (norm if norm > 1e-3 * size else size)).item() if off else 0.0


def check(op, implementation, args, drawn=None):
    """An implementation errs at most twice as much as the definition does in the same dtypes.

    The last rounding is allowed whatever the definition's luck, and some rounding of float32 within. Triton's
    interpreter cuts bfloat16 off where a GPU rounds, so there an error may be twice as large again.
    """
    seed = torch.random.initial_seed()

    def again(implementation, args):
        torch.manual_seed(seed)
        return run(op, implementation, args, drawn)

    found, given, gradients = again(implementation, args)
    own, _, own_gradients = again("reference", args)
    exact = [arg.double() if isinstance(arg, Tensor) else arg for arg in args]
    upstream = iter(given)
    torch.manual_seed(seed)
    truth, _, true_gradients = run(op, "reference", exact, lambda _: next(upstream).double())
    size = sum(grad.double().norm() for grad in given)
    pairs = zip([*found, *gradients], [*own, *own_gradients], [*truth, *true_gradients], strict=True)
    for at, (value, plain, right) in enumerate(pairs):
        if right is None:
            assert value is None or not value.any(), f"number {at} depends on what it should not"
            continue
        assert (value.shape, value.dtype) == (plain.shape, plain.dtype), f"number {at}"
        eps = torch.finfo(value.dtype).eps
        limit = max(2 * error(plain, right, size), eps / 2, 4 * torch.finfo(torch.float32).eps)
        if implementation == "reference":
            limit = 8 * max(torch.finfo(args[0].dtype).eps, eps)
        elif implementation == "fused" and INTERPRETED and args[0].dtype is torch.bfloat16:
            limit *= 2
        assert error(value, right, size) <= limit, f"number {at} of the outputs and gradients"


@each(SINGLE, BRAIN, HALF, MIXED)
def test_values_and_gradients_err_no_more_than_the_definition_s_own(op, implementation, case, dtypes, poisoned):
    check(op, implementation, typed(arguments(op, case), dtypes))


@each(SINGLE)
def test_numbers_need_not_lie_side_by_side(op, implementation, case, dtypes, poisoned):
    check(op, implementation, typed(arguments(op, case), dtypes, gaps=True))


@each(SINGLE)
def test_an_output_s_gradient_may_be_one_number_expanded(op, implementation, case, dtypes, poisoned):
    args = typed(arguments(op, case), dtypes)
    check(op, implementation, args, lambda out: torch.randn((), dtype=out.dtype, device=out.device).expand(out.shape))


@each_implementation
def test_any_of_the_outputs_may_have_no_gradient(op, implementation):
    args = example(op)
    args[0].requires_grad_()
    for used in range(len(tensors(op.reference(*args)))):
        found, right = (
            torch.autograd.grad(out.square().sum(), args[0])[0]
            for out in (tensors(getattr(op, name)(*args))[used] for name in (implementation, "reference"))
            if out.requires_grad
        )
        assert (found - right).norm() <= 1e-5 * right.norm()


@each_op
def test_a_definition_has_derivatives_of_second_order(op):
    args = min((arguments(op, case) for case in cases(op)), key=lambda args: args[0].numel() or 1000)
    exact = [arg.double() if isinstance(arg, Tensor) else arg for arg in args]
    for at in differentiable(op, exact):
        exact[at].requires_grad_()
    assert torch.autograd.gradcheck(lambda *args: tensors(op.reference(*args)), exact)
    assert torch.autograd.gradgradcheck(lambda *args: tensors(op.reference(*args)), exact)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # what torch takes some tangents by
@each_op
def test_forward_mode_derivatives_and_transforms_are_the_definition_s(op):
    first, *others = example(op)
    toward = torch.randn_like(first)

    def derivatives(call):
        def loss(first):
            return sum(out.square().sum() for out in tensors(call(first, *others)))

        with forward_ad.dual_level():
            (_, dual) = forward_ad.unpack_dual(loss(forward_ad.make_dual(first, toward)))
        (_, tangent) = torch.func.jvp(loss, (first,), (toward,))
        mapped = torch.vmap(lambda size: tensors(call(first * size, *others))[0])(torch.ones(2, device=DEVICE))
        return dual, tangent, torch.func.grad(loss)(first), torch.func.jacrev(loss)(first), mapped

    for found, right in zip(derivatives(getattr(kernels, op.name)), derivatives(op.reference), strict=True):
        torch.testing.assert_close(found, right, rtol=0, atol=0)


@each_op
def test_the_cases_hold_what_breaks_kernels(op):
    first = [arguments(op, case)[0] for case in cases(op)]
    assert any(arg.numel() == 0 for arg in first), "add an empty batch"
    assert any(size % 2 and size > 1 for arg in first for size in arg.shape), "add odd sizes"
    module = sys.modules[f"zoo.kernels.{op.name}.cases"]
    assert any(case.bytes_moved for case in module.CASES), "add a case for benchmarks, with bytes_moved"


@pytest.mark.parametrize("mode", ["auto", "reference"])
@each_op
def test_an_operation_compiles_in_one_graph(op, mode):
    torch.compiler.reset()
    args = example(op)
    args[0].requires_grad_()

    def loss(*args):
        return sum(out.square().sum() for out in tensors(getattr(kernels, op.name)(*args)))

    def results(function):
        value = function(*args)
        return torch.stack([value.detach(), torch.autograd.grad(value, args[0])[0].norm()])

    with kernels.use(mode):
        compiled = results(torch.compile(loss, fullgraph=True, backend="aot_eager"))
        torch.testing.assert_close(compiled, results(loss))


@pytest.fixture
def defined():
    """The definition runs, though kernels may be there."""
    with kernels.use("reference"):
        yield


def test_the_norm_is_its_formula(defined):
    x, weight = torch.randn(3, 5), torch.rand(5)
    right = x / (x.square().mean(-1, keepdim=True) + 0.1).sqrt() * weight
    torch.testing.assert_close(kernels.rms_norm(x, weight, 0.1), right)
    torch.testing.assert_close(kernels.rms_norm(x, weight), kernels.rms_norm(x, weight, 1e-6))


def test_rope_turns_complex_numbers(defined):
    x, angle = torch.randn(2, 3, 5, 8), torch.rand(5, 4)
    turned = torch.complex(*x.chunk(2, -1)) * torch.polar(torch.ones(5, 4), angle)
    torch.testing.assert_close(kernels.rope(x, angle.cos(), angle.sin()), torch.cat((turned.real, turned.imag), -1))


def test_rope_makes_products_depend_on_distances_alone(defined):
    angle = torch.arange(9.0)[:, None] * torch.tensor([1.0, 0.1])
    query, key = (kernels.rope(torch.randn(4).expand(1, 1, 9, 4), angle.cos(), angle.sin())[0, 0] for _ in range(2))
    scores = query @ key.T
    torch.testing.assert_close(scores[1:, 1:], scores[:-1, :-1])


def test_swiglu_is_its_formula(defined):
    gate, up = torch.randn(2, 3, 5)
    torch.testing.assert_close(kernels.swiglu(gate, up), gate / (1 + (-gate).exp()) * up)


@pytest.mark.parametrize("implementation", implementations(next(op for op in OPS if op.name == "add_rms_norm")))
def test_the_norm_reads_the_sum_as_it_is_stored(implementation):
    """In bfloat16 the interpreter cuts off where others round, so this looks at float16."""
    op = next(op for op in OPS if op.name == "add_rms_norm")
    x, residual = torch.randn(2, 50, 64, dtype=torch.float16, device=DEVICE)
    y, h = getattr(op, implementation)(x, residual, torch.ones(64, dtype=torch.float16, device=DEVICE), 1e-6)
    assert torch.equal(h, x + residual)
    right = F.rms_norm(h.double(), (64,), eps=1e-6)
    off = (y - right).abs() - 1.01 * 2.0**-11 * right.abs()
    assert off.max() < 1e-7, "more than one rounding: the norm read the sum before it was rounded"


def test_under_autocast_the_stream_stays_float32(defined):
    """A block's output is in half precision there, and the stream it is added to is not."""
    x, residual, weight = torch.randn(2, 8).bfloat16(), torch.randn(2, 8), torch.rand(8)
    y, h = kernels.add_rms_norm(x, residual, weight)
    assert y.dtype == h.dtype == torch.float32
    assert kernels.rms_norm(x, weight).dtype == torch.bfloat16
