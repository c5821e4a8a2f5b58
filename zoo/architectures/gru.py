"""Gated recurrent unit (Cho, van Merriënboer, Gulcehre, Bahdanau, Bougares, Schwenk and Bengio, 2014).

"Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine Translation", section 2.3:
https://arxiv.org/abs/1406.1078. The unit alone, stacked; not the paper's encoder and decoder.

A unit keeps a share z of what it was and takes the rest from a candidate. What the candidate sees of the past goes
through a second gate, so that a unit can start anew:

    r = sigmoid(W_r x + b_r + U_r h + c_r)     reset gate
    z = sigmoid(W_z x + b_z + U_z h + c_z)     update gate
    n = tanh(W_n x + b_n + r * (U_n h + c_n))  candidate
    h' = (1 - z) * n + z * h                   output

Differences from the paper. The unit is the one that PyTorch's fused function computes: the reset gate acts behind the
matrix, r * (U h), where the paper has U (r * h), so that all products with h are one; and there are biases, two for
each gate, where the paper leaves them out. As in the paper z is what is kept; others have it the other way round.

Initialisation: recurrent matrices are orthogonal (Saxe et al., 2014), one per gate, what reads the input is uniform
with the variance of Glorot and Bengio (2010), and biases are zero.

Dropout is that of Zaremba et al. (2014), https://arxiv.org/abs/1409.2329: on the embedding and on each layer's output,
not from position to position. Tied embeddings score a token by its own vector, without a bias (Press and Wolf, 2017;
Inan et al., 2017); embeddings are as wide as the state, so nothing stands in between.

Glossary: `dim` is the number of units of a layer, `depth` the number of layers; `input` holds the paper's W_r, W_z and
W of all gates with b, `state` its U_r, U_z and U with c; the candidate n is the paper's h with a tilde.

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
class GRUConfig:
    """What a GRU reads, what it gives, and its size; the defaults are a language model of bytes."""

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
    """The equations above, for one position."""

    num_states = 1  # the output
    over_sequence = staticmethod(torch.gru)

    def __init__(self, in_features: int, dim: int) -> None:
        super().__init__()
        self.input = nn.Linear(in_features, 3 * dim)
        self.state = nn.Linear(dim, 3 * dim)

    @torch.no_grad()
    def init_weights(self) -> None:
        for weight in self.input.weight.chunk(3):
            nn.init.xavier_uniform_(weight)
        for weight in self.state.weight.chunk(3):
            nn.init.orthogonal_(weight)
        nn.init.zeros_(self.input.bias)
        nn.init.zeros_(self.state.bias)

    def forward(self, x: Tensor, state: tuple[Tensor]) -> tuple[Tensor]:
        (h,) = state
        read_r, read_z, read_n = self.input(x).chunk(3, -1)
        held_r, held_z, held_n = self.state(h).chunk(3, -1)
        r, z = (read_r + held_r).sigmoid(), (read_z + held_z).sigmoid()
        n = (read_n + r * held_n).tanh()
        return ((1 - z) * n + z * h,)


class GRU(nn.Module):
    """Stacked layers of the unit between an embedding and a head; `generate` and `stream` continue a text."""

    forward = forward
    new_state = new_state
    step = step
    generate = generate
    stream = stream
    example_inputs = example_inputs

    def __init__(self, config: GRUConfig) -> None:
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
    name="gru",
    model=GRU,
    config=GRUConfig,
    task="text-generation",
    paper="https://arxiv.org/abs/1406.1078",
    tiny=GRUConfig(vocab_size=64, dim=16, depth=2),
    presets={
        "gru_small": GRUConfig(dim=128, depth=2),
        "gru_medium": GRUConfig(dim=256, depth=2),
        "gru_large": GRUConfig(dim=512, depth=3),
    },
    params={
        "gru": 920_832,
        "gru_small": 263_936,
        "gru_medium": 920_832,
        "gru_large": 4_990_208,
    },
    aliases={},
)
