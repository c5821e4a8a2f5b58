"""Multi-layer perceptron (Rumelhart, Hinton and Williams, 1986), https://doi.org/10.1038/323533a0.

Layers of units, each h = activation(W x + b), end in a linear `head`. The presets are the 784-300-100-10 network
of LeCun et al. (1998), http://yann.lecun.com/exdb/publis/pdf/lecun-98.pdf, section III-C, and a rectifier
network with two layers of 512 units.

Differences from the paper: the default activation is the rectifier (Glorot, Bordes and Bengio, 2011) rather than
the sigmoid, because it trains without care; LeCun's tanh is not scaled; all layers are trained at one rate.

Dropout (Srivastava et al., 2014) is inverted: in training each hidden unit is kept with probability 1 - p and
then divided by 1 - p, so that its expectation is what it was, and evaluation needs no correction.

Initialisation: weights have zero mean and a variance that keeps signals from growing or fading with depth, and
biases are zero.

    he       2 / fan_in, normal                 He et al. (2015), for rectifiers, which halve the second moment
    xavier   2 / (fan_in + fan_out), uniform    Glorot and Bengio (2010), for tanh and sigmoid

Input: features (batch, in_features), float, about standardised. Output: logits (batch, num_classes).
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from zoo.registry import Architecture

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "softplus": nn.Softplus,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}


@dataclass(frozen=True, kw_only=True)
class MLPConfig:
    """The shape of a multi-layer perceptron."""

    in_features: int = 784
    widths: tuple[int, ...] = (300, 100)
    """Units of each hidden layer, from the input on; an empty tuple leaves a linear model."""
    num_classes: int = 10
    """1 serves regression: the only logit is the prediction."""
    activation: Literal["sigmoid", "tanh", "relu", "elu", "softplus", "gelu", "silu"] = "relu"
    dropout: float = 0.0
    """Probability that a hidden unit is dropped in training."""
    init: Literal["he", "xavier"] = "he"

    def __post_init__(self) -> None:
        """Refuse empty layers and a dropout that keeps nothing."""
        for size in (self.in_features, *self.widths, self.num_classes):
            if size < 1:
                raise ValueError(f"a layer of {size} units is below 1; see in_features, widths and num_classes")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout {self.dropout} is not in [0, 1)")


def hidden_layer(in_features: int, width: int, activation: str, dropout: float) -> nn.Sequential:
    """(batch, in_features) -> (batch, width)."""
    return nn.Sequential(
        OrderedDict(
            linear=nn.Linear(in_features, width),
            activation=ACTIVATIONS[activation](),
            dropout=nn.Dropout(dropout),
        )
    )


class MLP(nn.Module):
    """Hidden layers, then a linear head."""

    def __init__(self, config: MLPConfig) -> None:
        """Build from a config."""
        super().__init__()
        self.config = config
        widths = (config.in_features, *config.widths)
        self.blocks = nn.Sequential(
            *(hidden_layer(a, b, config.activation, config.dropout) for a, b in pairwise(widths))
        )
        self.head = nn.Linear(widths[-1], config.num_classes)

    def forward(self, features: Tensor) -> Tensor:
        """Logits (batch, num_classes) of features (batch, in_features)."""
        return self.head(self.blocks(features))

    def init_weights(self) -> None:
        """Draw weights as the config's `init` says; biases are zero."""
        draw = {"he": nn.init.kaiming_normal_, "xavier": nn.init.xavier_uniform_}[self.config.init]
        for module in self.modules():
            if isinstance(module, nn.Linear):
                draw(module.weight)
                nn.init.zeros_(module.bias)

    def example_inputs(self, batch_size: int = 2) -> dict[str, Tensor]:
        """What `forward` takes."""
        return {"features": torch.randn(batch_size, self.config.in_features)}


ARCHITECTURE = Architecture(
    name="mlp",
    model=MLP,
    config=MLPConfig,
    task="tabular-classification",
    paper="https://doi.org/10.1038/323533a0",
    tiny=MLPConfig(in_features=6, widths=(8, 7), num_classes=3, dropout=0.1),
    presets={
        "mlp_mnist_300_100": MLPConfig(widths=(300, 100), activation="tanh", init="xavier"),
        "mlp_mnist_512x2": MLPConfig(widths=(512, 512), activation="relu", dropout=0.2),
    },
    params={"mlp": 266_610, "mlp_mnist_300_100": 266_610, "mlp_mnist_512x2": 669_706},
    aliases={},
)
