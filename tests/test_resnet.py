"""What residual networks promise beyond the laws."""

import math

import pytest
import torch
import torch.nn.functional as F
from laws import build, perturbed
from torch import nn

import zoo
from zoo.architectures.resnet import ARCHITECTURE, ResNetConfig
from zoo.weights.fit import MismatchError


def small(**options):
    return ResNetConfig(**{"block": "basic", "width": 8, "stem": "small", "num_classes": 5} | options)


def test_option_a_subsamples_and_pads_with_zero_channels():
    """With every F zero a block is its shortcut, so the network shows nothing but shortcuts."""
    config = small(depths=(2, 2, 2), shortcut="pad", zero_init_residual=True)
    model = build(ARCHITECTURE, config).eval()
    image = torch.randn(2, 3, 13, 10)
    expected = F.pad(model.stem(image)[:, :, ::4, ::4], (0, 0, 0, 0, 0, 24))
    assert torch.equal(model.forward_features(image), expected)


def test_option_b_projects_where_shapes_change_and_nowhere_else():
    model = build(ARCHITECTURE, small(depths=(2, 2), zero_init_residual=True)).eval()
    image = torch.randn(2, 3, 13, 10)
    expected = model.stages[1][0].shortcut(model.stem(image)).relu()
    assert torch.equal(model.forward_features(image), expected)
    projections = [block for stage in model.stages for block in stage if not isinstance(block.shortcut, nn.Identity)]
    assert projections == [model.stages[1][0]]


def test_a_bottleneck_halves_the_resolution_in_its_3x3_convolution():
    model = build(ARCHITECTURE, ResNetConfig(depths=(1, 1), width=8, group_width=8))
    residual = model.stages[1][0].residual
    assert [(c.kernel_size, c.stride) for c in residual.children() if isinstance(c, nn.Conv2d)] == [
        ((1, 1), (1, 1)),
        ((3, 3), (2, 2)),
        ((1, 1), (1, 1)),
    ]


def test_convolutions_start_with_the_variance_of_he_et_al():
    model = build(ARCHITECTURE, ResNetConfig(depths=(1, 1)))
    conv = model.stages[1][0].residual.conv3  # 128 channels to 512
    assert conv.weight.var().item() == pytest.approx(2 / 512, rel=0.02)


@pytest.mark.parametrize("name", [name for name in ARCHITECTURE.presets if name.startswith("resnet")])
def test_the_name_counts_the_layers(name):
    with torch.device("meta"):
        model = ARCHITECTURE.model(ARCHITECTURE.presets[name])
    residuals = [block.residual for stage in model.stages for block in stage]
    layers = [m for residual in residuals for m in residual.children() if isinstance(m, nn.Conv2d)]
    assert len(layers) + 2 == int("".join(filter(str.isdigit, name.partition("x")[0])))


@pytest.mark.filterwarnings("ignore:the last feature map")
@pytest.mark.parametrize("size", [(8, 8), (28, 28), (33, 47), (7, 5), (1, 1)], ids=str)
@pytest.mark.parametrize(
    ("stem", "shortcut", "stride"), [("imagenet", "projection", 32), ("small", "projection", 8), ("small", "pad", 8)]
)
def test_any_size_fits(stem, shortcut, stride, size):
    model = perturbed(ARCHITECTURE, small(depths=(1, 1, 1, 1), stem=stem, shortcut=shortcut))
    image = torch.randn(2, 3, *size)
    assert model.forward_features(image).shape == (2, 64, *(math.ceil(side / stride) for side in size))
    assert model(image).isfinite().all()


@pytest.mark.parametrize(
    "options",
    [{"depths": ()}, {"depths": (2, 0)}, {"width": 0}, {"num_classes": -1}, {"block": "basic", "groups": 2}],
    ids=str,
)
def test_contradictions_are_refused(options):
    with pytest.raises(ValueError, match=list(options)[-1]):
        ResNetConfig(**options)


def test_a_file_of_a_network_that_a_library_has_not_says_so(tmp_path):
    zoo.export_weights(zoo.create("resnet18"), tmp_path / "a.safetensors", format="torchvision")
    with pytest.raises(
        MismatchError, match=r"a\.safetensors does not fit ResNet: none of its names is ours, and torchvi"
    ):
        zoo.create("resnet20", weights=tmp_path / "a.safetensors")
    with pytest.raises(
        MismatchError, match="torchvision has no resnet with stem 'small', timm has no resnet with stem"
    ):
        zoo.create("resnet18", weights=tmp_path / "a.safetensors", stem="small")
