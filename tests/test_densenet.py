"""The memory-efficient DenseNet is the plain one, with less kept for the backward pass."""

import dataclasses

import pytest
import torch
from laws import build

from zoo.architectures.densenet import ARCHITECTURE


def pair(training):
    plain = build(ARCHITECTURE, dataclasses.replace(ARCHITECTURE.tiny, dropout=0.3))
    saving = build(ARCHITECTURE, dataclasses.replace(ARCHITECTURE.tiny, dropout=0.3, memory_efficient=True))
    saving.load_state_dict(plain.state_dict())
    return plain.train(training), saving.train(training)


def step(model, image):
    """Output, gradients and state after one step."""
    torch.manual_seed(1)
    output = model(image)
    (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
    return [output.detach(), *(parameter.grad for parameter in model.parameters()), *model.buffers()]


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_outputs_gradients_and_statistics_are_equal(training):
    plain, saving = pair(training)
    image = torch.randn(4, 3, 16, 16)
    for _ in range(2):
        assert all(torch.equal(a, b) for a, b in zip(step(plain, image), step(saving, image), strict=True))


def test_less_is_kept():
    kept = []
    for model in pair(training=True):
        sizes = {}
        pack = torch.autograd.graph.saved_tensors_hooks(
            lambda t, s=sizes: s.update({t.data_ptr(): t.nbytes}), lambda t: t
        )
        with pack:
            model(torch.randn(4, 3, 16, 16))
        kept.append(sum(sizes.values()))
    assert kept[1] < kept[0]


def test_it_compiles_as_a_whole():
    torch.compiler.reset()
    plain, saving = pair(training=False)
    image = torch.randn(2, 3, 16, 16)
    compiled = torch.compile(saving, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(image), plain(image))
