"""The scans and the convolution of Mamba are their definitions, to the last digits that float32 has."""

import importlib
import re
import warnings

import pytest
import torch
import torch._dynamo.testing
import torch.nn.functional as F
from torch.autograd import forward_ad

import zoo
from zoo import kernels
from zoo.architectures import mamba, mamba2

OPS = {op.name: op for op in kernels.ops()}
SCANS = ["selective_scan", "ssd_scan"]
NAMES = ("x", "delta", "A", "B", "C", "D", "state")
TINY = {"mamba": mamba.ARCHITECTURE.tiny, "mamba2": mamba2.ARCHITECTURE.tiny}
each_scan = pytest.mark.parametrize("name", SCANS)


def draw(name, seq, batch=2, seed=0):
    """Arguments with the time steps that trained models have, mostly between .01 and 1."""
    torch.manual_seed(seed)
    if name == "selective_scan":
        shape, A, reads, D, state = (5,), -torch.arange(1.0, 17).repeat(5, 1), (16,), (5,), (5, 16)
    else:
        shape, A, reads, D, state = (4, 6), -torch.empty(4).uniform_(1, 16), (2, 8), (4,), (4, 6, 8)
    x = torch.randn(batch, seq, *shape)
    delta = F.softplus(1.5 * torch.randn(batch, seq, shape[0]) - 2)
    B, C = torch.randn(2, batch, seq, *reads)
    return [x, delta, A, B, C, torch.randn(D), torch.randn(batch, *state)]


def run(function, arguments, dtype=None):
    """Outputs, final state and the gradient of every argument, for random gradients of both that bfloat16 can hold."""
    leaves = [tensor.to(dtype).detach().clone().requires_grad_() for tensor in arguments]
    outputs = function(*leaves)
    generator = torch.Generator().manual_seed(7)
    toward = [torch.randn(output.shape, generator=generator).bfloat16().to(output.dtype) for output in outputs]
    gradients = torch.autograd.grad(outputs, leaves, toward)
    return dict(zip(("y", "end", *NAMES), (*outputs, *gradients), strict=True))


def largest_differences(found, truth):
    return {name: ((found[name] - value).abs().max() / value.abs().max()).item() for name, value in truth.items()}


@each_scan
@pytest.mark.parametrize("seq", [1, 2, 15, 16, 17, 63, 64, 65, 131, 500, 1111, 4096])
def test_float32_is_within_a_millionth_of_the_recurrence_in_float64(name, seq):
    arguments = draw(name, seq, seed=seq)
    truth = run(OPS[name].reference, arguments, torch.float64)
    differences = largest_differences(run(OPS[name].chunked, arguments, torch.float32), truth)
    assert max(differences.values()) < 1e-6, differences


@each_scan
@pytest.mark.parametrize("at", [1, 2], ids=["delta", "A"])
def test_states_may_grow_instead_of_decaying(name, at):
    arguments = draw(name, 131)
    arguments[at] *= -0.1
    truth = run(OPS[name].reference, arguments, torch.float64)
    differences = largest_differences(run(OPS[name].chunked, arguments, torch.float32), truth)
    assert max(differences.values()) < 3e-6, differences


@each_scan
@pytest.mark.parametrize("scale", [1e-3, 30.0], ids=["slow", "fast"])
def test_decays_may_be_very_slow_or_very_fast(name, scale):
    x, delta, *rest = draw(name, 300)
    arguments = [x, delta * scale, *rest]
    truth = run(OPS[name].reference, arguments, torch.float64)
    differences = largest_differences(run(OPS[name].chunked, arguments, torch.float32), truth)
    assert max(differences.values()) < 1e-6, differences


@each_scan
def test_float64_gradients_are_those_of_small_differences(name):
    arguments = [tensor.double().requires_grad_() for tensor in draw(name, 67, batch=1)]
    assert torch.autograd.gradcheck(OPS[name].chunked, arguments, fast_mode=True)


@each_scan
@pytest.mark.parametrize("cut", [1, 16, 30, 64, 69])
def test_two_parts_with_a_carried_state_are_the_whole(name, cut):
    arguments = draw(name, 70)

    def in_parts(x, delta, A, B, C, D, state):
        first = [tensor[:, :cut] for tensor in (x, delta, B, C)]
        second = [tensor[:, cut:] for tensor in (x, delta, B, C)]
        y, state = OPS[name](first[0], first[1], A, *first[2:], D, state)
        z, state = OPS[name](second[0], second[1], A, *second[2:], D, state)
        return torch.cat([y, z], 1), state

    whole = run(OPS[name].reference, arguments, torch.float64)
    differences = largest_differences(run(in_parts, arguments, torch.float32), whole)
    assert max(differences.values()) < 1e-6, differences


@each_scan
def test_without_a_state_it_starts_from_zeros_and_without_D_nothing_passes_by(name):
    *arguments, D, state = draw(name, 20)
    y, end = getattr(kernels, name)(*arguments)
    same, same_end = getattr(kernels, name)(*arguments, torch.zeros_like(D), torch.zeros_like(state))
    assert torch.equal(y, same)
    assert torch.equal(end, same_end)


@each_scan
@pytest.mark.parametrize("implementation", ["reference", "chunked"])
def test_half_precision_inputs_are_computed_in_float32(name, implementation):
    arguments = [tensor.bfloat16() for tensor in draw(name, 80)]
    exact = run(OPS[name].reference, arguments, torch.float64)
    found = run(getattr(OPS[name], implementation), arguments, torch.bfloat16)
    assert found["y"].dtype == found["x"].dtype == found["A"].dtype == torch.bfloat16
    assert found["end"].dtype == torch.float32
    assert largest_differences(found, exact)["end"] < 1e-6
    differences = largest_differences(found, {key: value for key, value in exact.items() if key != "end"})
    assert max(differences.values()) < 2**-8, differences  # that of rounding once


@each_scan
def test_autocast_changes_nothing(name):
    arguments = draw(name, 80)
    plain = run(OPS[name], arguments, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        found = run(OPS[name], arguments, torch.float32)
    assert all(torch.equal(found[key], plain[key]) for key in plain)


@each_scan
def test_inputs_need_not_be_contiguous(name):
    arguments = draw(name, 40)
    plain = run(OPS[name], arguments, torch.float32)
    strided = [torch.stack([t, t], -1)[..., 0] for t in arguments]
    assert not strided[0].is_contiguous()
    found = OPS[name](*strided)
    assert torch.equal(found[0], plain["y"])
    assert torch.equal(found[1], plain["end"])


@each_scan
def test_one_step_from_a_state_is_the_formula(name):
    """Written out for one channel with one number as its state."""
    numbers = {"x": 3.0, "delta": 0.5, "A": -2.0, "B": 5.0, "C": 7.0, "D": 13.0, "state": 11.0}
    shapes = [tensor.shape for tensor in draw(name, 1)]
    arguments = [torch.full([1] * len(shape), numbers[key]) for key, shape in zip(NAMES, shapes, strict=True)]
    y, end = OPS[name](*arguments)
    after = torch.exp(torch.tensor(0.5 * -2)) * 11 + 0.5 * 3 * 5
    torch.testing.assert_close(end.flatten()[0], after)
    torch.testing.assert_close(y.flatten()[0], 7 * after + 13 * 3)


@each_scan
def test_autograd_keeps_a_fraction_of_the_states(name):
    arguments = [tensor.requires_grad_() for tensor in draw(name, 1024)]
    kept = {}

    def count(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        OPS[name].chunked(*arguments)
    inputs = {tensor.untyped_storage().data_ptr() for tensor in arguments}
    states = sum(size for pointer, size in kept.items() if pointer not in inputs)
    every_state = 1024 * arguments[-1].numel() * 4
    assert states < every_state / 15


@each_scan
def test_a_compiled_scan_is_one_node_and_the_same_with_its_gradients(name):
    torch.compiler.reset()
    arguments = draw(name, 70)
    graphs = []

    def keep(graph, _):
        graphs.append(graph)
        return graph.forward

    public = getattr(kernels, name)
    run(torch.compile(public, fullgraph=True, backend=keep), arguments, torch.float32)
    assert len(graphs[0].graph.nodes) < 60  # the reference has hundreds
    found = run(torch.compile(public, fullgraph=True, backend="aot_eager"), arguments, torch.float32)
    plain = run(public, arguments, torch.float32)
    for key, value in plain.items():
        torch.testing.assert_close(found[key], value, msg=key)


@each_scan
def test_an_exported_scan_takes_sequences_of_any_length(name):
    class Scan(torch.nn.Module):
        def forward(self, x, delta, A, B, C):
            return getattr(kernels, name)(x, delta, A, B, C)

    seq = torch.export.Dim("seq", min=2, max=4096)
    shapes = tuple({1: seq} if i != 2 else None for i in range(5))
    exported = torch.export.export(Scan(), tuple(draw(name, 70)[:5]), dynamic_shapes=shapes)
    assert [node.target for node in exported.graph.nodes].count(getattr(torch.ops.zoo, name).default) == 1
    for length in (33, 70, 200):
        arguments = draw(name, length)[:5]
        for found, plain in zip(exported.module()(*arguments), Scan()(*arguments), strict=True):
            torch.testing.assert_close(found, plain)


@each_scan
def test_a_scan_compiled_for_any_length_is_compiled_once(name):
    torch.compiler.reset()
    compilations = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    public = getattr(kernels, name)
    compiled = torch.compile(public, fullgraph=True, dynamic=True, backend=compilations)
    for length in (33, 70, 200):
        arguments = draw(name, length, batch=3)
        for found, plain in zip(compiled(*arguments), public(*arguments), strict=True):
            torch.testing.assert_close(found, plain)
    assert compilations.frame_count == 1


@each_scan
@pytest.mark.parametrize("seq", [2, 70])
def test_the_operator_is_registered_as_torch_wants_it(name, seq):
    module = importlib.import_module(f"zoo.kernels.{name}.chunked")
    arguments = [tensor.detach().clone().requires_grad_() for tensor in draw(name, seq)]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The .grad attribute of a Tensor that is not a leaf")  # opcheck's own affair
        torch.library.opcheck(module._scan, arguments)


@each_scan
def test_derivatives_of_second_order_need_the_reference(name):
    arguments = [tensor.double().requires_grad_() for tensor in draw(name, 3, batch=1)]
    with kernels.use("reference"):
        assert torch.autograd.gradgradcheck(getattr(kernels, name), arguments, fast_mode=True)
    y, _ = getattr(kernels, name)(*arguments)
    (gradient,) = torch.autograd.grad(y.sum(), arguments[0], create_graph=True)
    with pytest.raises(ValueError, match=rf"^{name} has no second derivative.*use\('reference'\)"):
        gradient.sum().backward()


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # what torch takes some tangents by
@pytest.mark.parametrize("name", TINY)
def test_a_model_s_derivatives_by_transforms_are_those_of_its_backward_pass(name):
    torch.manual_seed(0)
    model = zoo.create(TINY[name]).eval()
    weights = {key: weight.detach() for key, weight in model.named_parameters()}
    texts = model.example_inputs(3)["tokens"]

    def loss(weights, texts):
        return torch.func.functional_call(model, weights, (texts,)).square().mean()

    grads = []
    for text in texts:
        model.zero_grad()
        loss(dict(model.named_parameters()), text[None]).backward()
        grads.append({key: weight.grad.clone() for key, weight in model.named_parameters()})
    of_each = torch.vmap(torch.func.grad(loss), (None, 0))(weights, texts[:, None])
    rows = torch.func.jacrev(lambda weights: torch.stack([loss(weights, text[None]) for text in texts]))(weights)
    toward = {key: torch.randn_like(weight) for key, weight in weights.items()}
    _, slope = torch.func.jvp(lambda weights: loss(weights, texts[:1]), (weights,), (toward,))
    with forward_ad.dual_level():
        dual = loss({key: forward_ad.make_dual(weight, toward[key]) for key, weight in weights.items()}, texts[:1])
        torch.testing.assert_close(forward_ad.unpack_dual(dual).tangent, slope)
    torch.testing.assert_close(slope, sum((grads[0][key] * toward[key]).sum() for key in weights), rtol=1e-4, atol=0)
    for key in weights:
        right = torch.stack([grad[key] for grad in grads])
        torch.testing.assert_close(of_each[key], right, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(rows[key], right, rtol=1e-4, atol=1e-6)


def cut(tensor, axis):
    """The tensor without its last entry along an axis, or None for an argument that is not there."""
    return tensor.narrow(axis, 0, tensor.shape[axis] - 1)


@each_scan
def test_every_axis_of_every_argument_is_compared_with_the_others(name):
    arguments = draw(name, 20, batch=2)
    for at, argument in enumerate(arguments):
        for axis in range(argument.ndim):
            wrong = [*arguments[:at], cut(argument, axis), *arguments[at + 1 :]]
            with pytest.raises(ValueError, match=r"must be \(.*\), got the shape \(|groups do not divide"):
                getattr(kernels, name)(*wrong)
        wrong = [*arguments[:at], argument[None], *arguments[at + 1 :]]
        shape = re.escape(str((1, *argument.shape)))
        with pytest.raises(ValueError, match=rf"^{NAMES[at]} must be .*, got the shape {shape}$"):
            getattr(kernels, name)(*wrong)


def test_a_shape_s_error_names_the_argument_its_shape_and_the_right_one():
    x, delta, A, B, C, *_ = draw("selective_scan", 20)
    message = r"^C must be \(batch 2, seq 20, state_dim 16\), got the shape \(2, 20, 15\)$"
    with pytest.raises(ValueError, match=message):
        kernels.selective_scan(x, delta, A, B, cut(C, 2))
    with pytest.raises(ValueError, match=r"^A must be \(channels 5, state_dim\), got the shape \(16, 5\)$"):
        kernels.selective_scan(x, delta, A.mT, B, C)
    x, delta, A, B, C, *_ = draw("ssd_scan", 20)
    with pytest.raises(ValueError, match=r"^B's 3 groups do not divide x's 4 heads"):
        kernels.ssd_scan(x, delta, A, B[:, :, :1].expand(-1, -1, 3, -1), C)


@each_scan
def test_a_sequence_without_steps_is_refused(name):
    with pytest.raises(ValueError, match=r"^x must be \(batch, seq, .*\) with seq at least 1, got the shape \(2, 0, "):
        getattr(kernels, name)(*draw(name, 0))


@each_scan
def test_the_chunked_form_runs_on_the_cpu(name):
    assert next(status for status in kernels.status() if status.op == name).cpu == "chunked"


def draw_convolution(seq, width=4, channels=6):
    torch.manual_seed(seq)
    x, past = torch.randn(2, seq, channels), torch.randn(2, width - 1, channels)
    return x, torch.randn(channels, width), torch.randn(channels), past


@pytest.mark.parametrize("width", [1, 2, 4])
@pytest.mark.parametrize("seq", [1, 2, 9])
def test_the_convolution_is_torch_s_with_silu(seq, width):
    x, weight, bias, past = draw_convolution(seq, width)
    y, state = kernels.causal_conv1d(x, weight, bias, past)
    inputs = torch.cat([past, x], 1)
    expected = F.conv1d(inputs.mT, weight.unsqueeze(1), bias, groups=len(weight)).mT
    torch.testing.assert_close(y, F.silu(expected))
    assert torch.equal(state, inputs[:, seq:])


def test_the_convolution_s_last_weight_is_for_the_present_and_its_past_is_zeros():
    x = torch.tensor([1.0, 10.0, 100.0]).view(1, 3, 1)
    y, state = kernels.causal_conv1d(x, torch.tensor([[3.0, 2.0, 1.0]]))
    expected = torch.tensor([1.0, 12.0, 123.0])
    torch.testing.assert_close(y.flatten(), F.silu(expected))
    assert state.flatten().tolist() == [10.0, 100.0]


@pytest.mark.parametrize("cut", [1, 2, 5, 8])
def test_a_convolution_in_two_parts_is_the_whole(cut):
    x, weight, bias, past = draw_convolution(9)
    whole, end = kernels.causal_conv1d(x, weight, bias, past)
    first, state = kernels.causal_conv1d(x[:, :cut], weight, bias, past)
    second, state = kernels.causal_conv1d(x[:, cut:], weight, bias, state)
    torch.testing.assert_close(torch.cat([first, second], 1), whole)
    assert torch.equal(state, end)


def test_the_convolution_sums_half_precision_in_float32():
    x, weight, bias, past = (tensor.bfloat16() for tensor in draw_convolution(50))
    y, state = kernels.causal_conv1d(x, weight, bias, past)
    exact, _ = kernels.causal_conv1d(*(tensor.double() for tensor in (x, weight, bias, past)))
    assert y.dtype == state.dtype == torch.bfloat16
    assert torch.equal(y, exact.float().bfloat16())


@pytest.mark.parametrize("at", range(4), ids=["x", "weight", "bias", "state"])
def test_a_convolution_s_arguments_must_fit_along_every_axis(at):
    right = draw_convolution(9)
    for axis in range(right[at].ndim):
        if (at, axis) != (0, 1):  # any length will do
            wrong = [*right[:at], cut(right[at], axis), *right[at + 1 :]]
            with pytest.raises(ValueError, match=r"must be \(.*\), got the shape \("):
                kernels.causal_conv1d(*wrong)
    with pytest.raises(ValueError, match=r"^state must be \(batch 2, past 3, channels 6\), got the shape \(2, 9, 6\)$"):
        kernels.causal_conv1d(*right[:3], right[0])


def test_the_convolution_s_gradients_are_those_of_small_differences():
    assert torch.autograd.gradcheck(
        kernels.causal_conv1d, [tensor.double().requires_grad_() for tensor in draw_convolution(5)]
    )
