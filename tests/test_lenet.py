"""LeNet has no peer, so it is compared with its paper by hand."""

import dataclasses

import torch
import torch.nn.functional as F
from laws import perturbed

from zoo.architectures.lenet import ARCHITECTURE, Squash


def test_units_squash_one_to_one():
    torch.testing.assert_close(
        Squash()(torch.tensor([1.0, -1.0, 0.0])), torch.tensor([1.0, -1.0, 0.0]), rtol=0, atol=1e-4
    )
    assert abs(Squash()(torch.tensor(1e9)) - 1.7159) < 1e-6


def test_the_network_is_the_paper_s():
    model = perturbed(ARCHITECTURE, ARCHITECTURE.presets["lenet5"])
    image = model.example_inputs(2)["image"]
    weights = list(model.parameters())

    def squash(x):
        return 1.7159 * torch.tanh(2 / 3 * x)

    x = squash(F.conv2d(image, *weights[0:2]))
    assert x.shape == (2, 6, 28, 28)
    x = squash(F.conv2d(F.avg_pool2d(x, 2), *weights[2:4]))
    assert x.shape == (2, 16, 10, 10)
    x = squash(F.conv2d(F.avg_pool2d(x, 2), *weights[4:6]))
    assert x.shape == (2, 120, 1, 1)
    x = squash(F.linear(x.flatten(1), *weights[6:8]))
    torch.testing.assert_close(model(image), F.linear(x, *weights[8:10]))


def test_padding_takes_the_files_of_mnist():
    model = perturbed(ARCHITECTURE, dataclasses.replace(ARCHITECTURE.presets["lenet5"], padding=2))
    image = torch.randn(2, 1, 28, 28)
    unpadded = perturbed(ARCHITECTURE, ARCHITECTURE.presets["lenet5"])
    unpadded.load_state_dict(model.state_dict())
    torch.testing.assert_close(model(image), unpadded(F.pad(image, (2, 2, 2, 2))))
