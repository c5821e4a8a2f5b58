"""What only kernels have to show; these tests are there where kernels can run, on a GPU or interpreted."""

import importlib
from functools import partial

import pytest
import torch
from kernel_runs import BRAIN, DEVICE, FUSED, MIXED, OPS, SINGLE, arguments, cases, example, tensors, typed
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils._python_dispatch import TorchDispatchMode

from zoo import kernels

__test__ = FUSED
"""pytest then finds nothing else in this file."""

each_op = pytest.mark.parametrize("op", [pytest.param(op, id=op.name) for op in OPS if op.fused])


class Calls(TorchDispatchMode):
    """Keeps the calls of this package's custom operators."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.namespace == "zoo":
            self.calls.append((function, [arg.detach() if isinstance(arg, Tensor) else arg for arg in args]))
        return function(*args, **(kwargs or {}))


def backward_calls(op, args):
    """The custom operators that a backward pass calls, with their arguments."""
    outputs = [out for out in tensors(op.fused(*args)) if out.requires_grad]
    with Calls() as found:
        torch.autograd.grad(outputs, args[0], [torch.randn_like(out) for out in outputs])
    return found.calls


def small(op):
    """Cases that the many runs of `opcheck` can afford."""
    return [case for case in cases(op) if arguments(op, case)[0].numel() <= 1000]


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck's own
@pytest.mark.parametrize("dtypes", [SINGLE, BRAIN, MIXED], ids=str)
@each_op
def test_torch_knows_shapes_strides_and_gradients_of_the_operator(op, dtypes):
    importlib.import_module(f"zoo.kernels.{op.name}.fused")
    operator = getattr(torch.ops.zoo, op.name).default
    close = {"rtol": 2e-2, "atol": 1e-2} if dtypes is not SINGLE else {}
    for case in small(op) if dtypes is SINGLE else [small(op)[1]]:
        args = typed(arguments(op, case), dtypes)
        args[0].requires_grad_()
        torch.library.opcheck(operator, tuple(args), **close)
        for backward, given in backward_calls(op, args):
            torch.library.opcheck(backward, tuple(given), **close)


@each_op
def test_the_public_function_runs_the_kernel(op):
    args = example(op)
    for mode, expected in (("auto", 1), ("fused", 1), ("reference", 0)):
        with kernels.use(mode), Calls() as found:
            getattr(kernels, op.name)(*args)
        assert len(found.calls) == expected, mode


@each_op
def test_what_kernels_cannot_take_goes_to_the_definition_and_raises_where_they_are_asked_for(op):
    args = [arg.double() if isinstance(arg, Tensor) else arg for arg in example(op)]
    public = getattr(kernels, op.name)
    for found, right in zip(tensors(public(*args)), tensors(op.reference(*args)), strict=True):
        assert torch.equal(found, right)
    with kernels.use("fused"), pytest.raises(ValueError, match=f"{op.name} cannot run fused: .* float64"):
        public(*args)


@each_op
def test_the_second_derivative_is_refused_in_words_unless_it_is_right(op):
    importlib.import_module(f"zoo.kernels.{op.name}.fused")  # registers the operator of the backward pass
    args = example(op)
    args[0].requires_grad_()

    def second(implementation):
        out = tensors(implementation(*args))[0]
        (gradient,) = torch.autograd.grad(out.square().sum(), args[0], create_graph=True)
        return torch.autograd.grad(gradient.square().sum(), args[0])[0]

    second(op.reference)
    if hasattr(torch.ops.zoo, f"{op.name}_backward"):
        with pytest.raises(ValueError, match=r"no second derivative.*use\('reference'\)"):
            second(op.fused)
    else:  # an operator that is its own backward pass, as a rotation is
        torch.testing.assert_close(second(op.fused), second(op.reference))


@each_op
def test_asked_for_by_name_a_kernel_refuses_transforms_and_forward_mode(op):
    first, *others = example(op)

    def loss(first):
        return tensors(getattr(kernels, op.name)(first, *others))[0].square().sum()

    with kernels.use("fused"), pytest.raises(ValueError, match=r"torch\.func"):
        torch.func.grad(loss)(first)
    with kernels.use("fused"), forward_ad.dual_level(), pytest.raises(ValueError, match=r"dual_level"):
        loss(first)


@each_op
def test_an_exported_graph_holds_the_operator_for_any_batch(op):
    class Module(torch.nn.Module):
        def forward(self, *args):
            return getattr(kernels, op.name)(*args)

    args = tuple(example(op))
    graph = torch.export.export(Module(), args)
    assert f"zoo.{op.name}.default" in {str(node.target) for node in graph.graph.nodes}
    for found, right in zip(tensors(graph.module()(*args)), tensors(op.fused(*args)), strict=True):
        assert torch.equal(found, right)


@pytest.mark.parametrize("axes", [(1, 2), (1, 1)], ids=["transposed", "contiguous"])
def test_rope_leaves_heads_and_positions_in_their_order_in_memory(axes):
    x, angle = randn(2, 3, 5, 8).transpose(*axes), randn(5 if axes == (1, 1) else 3, 4)
    assert kernels.rope(x, angle.cos(), angle.sin()).stride() == x.stride()


def randn(*shape, **kind):
    return torch.randn(*shape, device=DEVICE, **kind)


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (partial(kernels.rms_norm, randn(2, 8), randn(7)), r"the weight's shape is \(7,\), not \(8,\)"),
        (partial(kernels.rms_norm, randn(1, 8193), randn(8193)), "8193 features are not between 1 and the 8192"),
        (partial(kernels.rms_norm, randn(2, 0), randn(0)), "0 features"),
        (
            partial(kernels.add_rms_norm, randn(2, 8), randn(8), randn(8)),
            r"the residual's shape is \(8,\), not \(2, 8\)",
        ),
        (partial(kernels.add_rms_norm, randn(2, 8), randn(2, 8), randn(2)), "the weight's shape"),
        (partial(kernels.rope, randn(3, 8), randn(3, 4), randn(3, 4)), "x has 2 axes"),
        (partial(kernels.rope, randn(1, 2, 3, 7), randn(3, 3), randn(3, 3)), "heads of 7 features are not even"),
        (partial(kernels.rope, randn(1, 2, 3, 8), randn(1, 4), randn(1, 4)), r"not \(3, 4\)"),
        (partial(kernels.rope, randn(1, 2, 3, 8), randn(3, 4, requires_grad=True), randn(3, 4)), "wants a gradient"),
        (partial(kernels.swiglu, randn(2, 8), randn(8)), r"\(2, 8\) and \(8,\), not the same"),
        (partial(kernels.swiglu, randn(()), randn(())), "no axis"),
    ],
)
def test_a_kernel_says_what_it_cannot_take(call, why):
    with kernels.use("fused"), pytest.raises(ValueError, match=why):
        call()
