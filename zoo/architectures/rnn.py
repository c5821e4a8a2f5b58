"""Simple recurrent network (Elman, 1990).

"Finding Structure in Time", figure 2: https://doi.org/10.1207/s15516709cog1402_1. Stacked as later work does.

A layer sees the input beside a copy of what it put out before, the context:

    h' = tanh(W x + b + U h + c)

Differences from the paper: units squash by tanh rather than by the logistic function, the gradient goes back through
all positions rather than to the context alone, and there are two biases, of which the paper has the sum: this is what
PyTorch's fused function computes.

Initialisation: recurrent matrices are orthogonal, so that what goes round neither fades nor grows at first (Saxe et
al., 2014), what reads the input is uniform with the variance of Glorot and Bengio (2010), and biases are zero.

Dropout is that of Zaremba et al. (2014), https://arxiv.org/abs/1409.2329: on the embedding and on each layer's output,
not from position to position. Tied embeddings score a token by its own vector, without a bias (Press and Wolf, 2017;
Inan et al., 2017); embeddings are as wide as the state, so nothing stands in between.

Glossary: `dim` is the number of hidden units of a layer, `depth` the number of layers; h, the state, is the paper's
context units; `input` holds W with b, `state` U with c.

tokens: (batch, seq) int64 in [0, vocab_size), or features: (batch, seq, in_features), float, about standardised.
Output: logits (batch, seq, vocab), logits (batch, num_classes), or predictions (batch, seq, out_features).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from zoo.nn.generate import generate, stream
from zoo.nn.recurrent import check, embedding, example_inputs, forward, head, init_ends, new_state, stack, step
from zoo.registry import Architecture


@dataclass(frozen=True, kw_only=True)
class RNNConfig:
    """What the network reads, what it gives, and its size; the defaults are a language model of bytes."""

    vocab_size: int | None = 256
    """Reads tokens, of which there are so many; None where it reads numbers."""
    in_features: int | None = None
    """Reads so many numbers per position; None where it reads tokens."""
    num_classes: int | None = None
    """Classifies the sequence."""
    out_features: int | None = None
    """Predicts so many numbers at every position. Without this and without num_classes it scores the next token."""
    dim: int = 256
    depth: int = 2
    bidirectional: bool = False
    """Reads the sequence from its end as well; not for language models."""
    dropout: float = 0.0
    """On the embedding and on each layer's output."""
    tie_embeddings: bool = False
    """Score tokens by the embedding's own matrix; there is then no `head` of its own."""

    def __post_init__(self) -> None:
        """Refuse sizes that do not fit together."""
        check(self)


class Cell(nn.Module):
    """The equation above, for one position."""

    num_states = 1  # the output
    over_sequence = staticmethod(torch.rnn_tanh)

    def __init__(self, in_features: int, dim: int) -> None:
        super().__init__()
        self.input = nn.Linear(in_features, dim)
        self.state = nn.Linear(dim, dim)

    def init_weights(self) -> None:
        nn.init.xavier_uniform_(self.input.weight)
        nn.init.orthogonal_(self.state.weight)
        nn.init.zeros_(self.input.bias)
        nn.init.zeros_(self.state.bias)

    def forward(self, x: Tensor, state: tuple[Tensor]) -> tuple[Tensor]:
        (h,) = state
        return ((self.input(x) + self.state(h)).tanh(),)


class RNN(nn.Module):
    """Stacked layers of the cell between an embedding and a head; `generate` and `stream` continue a text."""

    forward = forward
    new_state = new_state
    step = step
    generate = generate
    stream = stream
    example_inputs = example_inputs

    def __init__(self, config: RNNConfig) -> None:
        """Build it; `init_weights` draws the weights."""
        super().__init__()
        self.config = config
        self.embed = embedding(config)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = stack(Cell, config)
        self.head = head(config)

    def init_weights(self) -> None:
        """Draw all weights anew, as the head of this file says."""
        for module in self.modules():
            if isinstance(module, Cell):
                module.init_weights()
        init_ends(self.embed, self.head)


ARCHITECTURE = Architecture(
    name="rnn",
    model=RNN,
    config=RNNConfig,
    task="text-generation",
    paper="https://doi.org/10.1207/s15516709cog1402_1",
    tiny=RNNConfig(vocab_size=64, dim=16, depth=2),
    presets={
        "rnn_small": RNNConfig(dim=128, depth=2),
        "rnn_medium": RNNConfig(dim=256, depth=2),
        "rnn_large": RNNConfig(dim=512, depth=3),
    },
    params={
        "rnn": 394_496,
        "rnn_small": 131_840,
        "rnn_medium": 394_496,
        "rnn_large": 1_838_336,
    },
    aliases={},
)
