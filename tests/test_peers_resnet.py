"""The same weights give the same outputs and input gradients as torchvision's networks."""

import pytest
import torch
import torchvision
from laws import build

from zoo.architectures.resnet import ARCHITECTURE

pytestmark = pytest.mark.peers


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2"])
def test_outputs_and_input_gradients_are_torchvision_s(name):
    ours = build(ARCHITECTURE, ARCHITECTURE.presets[name]).eval().requires_grad_(False)
    for tensor in ours.state_dict().values():
        if tensor.ndim == 1:  # norms start out as the identity, which would hide a wrong one
            tensor += 0.1 * torch.rand_like(tensor)
    with torch.device("meta"):
        peer = getattr(torchvision.models, name)().eval().requires_grad_(False)
    by_position = dict(zip(peer.state_dict(), ours.state_dict().values(), strict=True))
    peer.load_state_dict(by_position, assign=True)
    image = torch.randn(2, 3, 72, 56)
    direction = torch.randn(2, 1000)
    (logits, gradient), (expected, expected_gradient) = (probe(model, image, direction) for model in (ours, peer))
    assert relative(logits, expected) < 1e-5
    assert relative(gradient, expected_gradient) < 1e-5


def probe(model, image, direction):
    image = image.clone().requires_grad_()
    logits = model(image)
    (logits * direction).sum().backward()
    return logits.detach(), image.grad


def relative(value, truth):
    return ((value - truth).norm() / truth.norm()).item()
