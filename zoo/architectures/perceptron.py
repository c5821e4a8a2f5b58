"""Perceptron (Rosenblatt, 1958), https://doi.org/10.1037/h0042519, with several classes as in Minsky and Papert (1969).

Two classes are told apart by one weight vector: the sign of s = w.x + b decides. Rosenblatt learns by adding y x
to w wherever y s <= 0, with y = +1 or -1, which is gradient descent on max(0, -y s). Several classes have a
weight vector each, and the largest score decides; a mistake moves the right class's vector towards x and the
winner's away from it, which is gradient descent on max(0, max_{j != y} logits_j - logits_y).

Two classes give two logits like any other number, (-s/2, s/2), from one weight vector. Their difference is s, so
every loss that reads logits reads Rosenblatt's model:

    argmax               1 exactly where s > 0
    softmax probability  exp(s/2) / (exp(s/2) + exp(-s/2)) = 1 / (1 + exp(-s)), the logistic function
    cross-entropy        log(1 + exp(-y s)), the logistic loss
    the loss above       max(0, -y s), Rosenblatt's

Differences from the paper: its fixed random features, the association units, are left to the data; weights
start small and random, because at zero all classes tie and a loss with a kink there has no gradient.

Glossary: features, the association units' outputs (a); `head`, the response units; scores, their net input (s).

Input: features (batch, in_features), float, any range. Output: logits (batch, num_classes).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from zoo.registry import Architecture


@dataclass(frozen=True, kw_only=True)
class PerceptronConfig:
    """The shape of a perceptron; by default MNIST's pixels to its ten digits."""

    in_features: int = 784
    num_classes: int = 10
    """2 means one weight vector; 1 is a plain linear regression."""

    def __post_init__(self) -> None:
        """Refuse empty layers."""
        if min(self.in_features, self.num_classes) < 1:
            raise ValueError(f"in_features {self.in_features} and num_classes {self.num_classes} must be at least 1")


class Perceptron(nn.Module):
    """A layer of threshold units that share their inputs."""

    def __init__(self, config: PerceptronConfig) -> None:
        """Build from a config."""
        super().__init__()
        self.config = config
        self.head = nn.Linear(config.in_features, 1 if config.num_classes == 2 else config.num_classes)

    def forward(self, features: Tensor) -> Tensor:
        """Logits (batch, num_classes) of features (batch, in_features)."""
        scores = self.head(features)
        if self.config.num_classes == 2:
            return torch.cat([-scores / 2, scores / 2], dim=-1)
        return scores

    def init_weights(self) -> None:
        """Draw weights and biases uniformly from +-1/sqrt(in_features)."""
        self.head.reset_parameters()

    def example_inputs(self, batch_size: int = 2) -> dict[str, Tensor]:
        """What `forward` takes."""
        return {"features": torch.randn(batch_size, self.config.in_features)}


ARCHITECTURE = Architecture(
    name="perceptron",
    model=Perceptron,
    config=PerceptronConfig,
    task="tabular-classification",
    paper="https://doi.org/10.1037/h0042519",
    tiny=PerceptronConfig(in_features=6, num_classes=3),
    presets={"perceptron": PerceptronConfig(in_features=784, num_classes=10)},
    params={"perceptron": 7_850},
    aliases={"perceptron_mnist": "perceptron"},
)
