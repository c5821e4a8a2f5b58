"""Gradient checkpointing keeps less and changes nothing."""

import pytest
import torch
from laws import architectures, build, classifiers

from zoo.training.recompute import recomputing

IMAGES = classifiers()


def outcome(model, inputs, checkpointed):
    """Gradients, statistics, and the bytes that the forward pass kept."""
    kept = {}
    torch.manual_seed(1)
    hooks = torch.autograd.graph.saved_tensors_hooks(lambda t: kept.update({t.data_ptr(): t.nbytes}) or t, lambda t: t)
    with recomputing([model] if checkpointed else []):
        with hooks:
            output = model(**inputs)
        (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
    own = {tensor.data_ptr() for tensor in model.state_dict().values()}
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    return gradients, dict(model.named_buffers()), sum(size for place, size in kept.items() if place not in own)


@pytest.mark.parametrize("architecture", [*IMAGES, *architectures("graph-ml")], ids=lambda record: record.name)
def test_gradients_and_statistics_are_the_same_and_less_is_kept(architecture):
    inputs = build(architecture).example_inputs(4)
    plain, saving = (outcome(build(architecture).train(), inputs, checkpointed) for checkpointed in (False, True))
    for before, after in zip(plain[:2], saving[:2], strict=True):
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], after[name]) for name in before)
    assert saving[2] < plain[2]


def test_the_model_is_as_before_afterwards():
    model = build(IMAGES[0])
    before = [set(vars(module)) for module in model.modules()]
    with recomputing([model]):
        assert [set(vars(module)) for module in model.modules()] != before
    assert [set(vars(module)) for module in model.modules()] == before
