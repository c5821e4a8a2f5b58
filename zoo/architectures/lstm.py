"""Long short-term memory (Hochreiter and Schmidhuber, 1997).

https://doi.org/10.1162/neco.1997.9.8.1735, section 4, with the forget gate of Gers, Schmidhuber and Cummins (2000),
https://doi.org/10.1162/089976600300015015, stacked and regularised as by Zaremba, Sutskever and Vinyals (2014),
https://arxiv.org/abs/1409.2329, whose three language models of the Penn Treebank are presets.

A cell carries a sum from position to position, so that its gradient neither fades nor grows on the way. Gates with
values between 0 and 1 decide what is added to it, what is kept of it, and what of it is shown:

    i = sigmoid(W_i x + b_i + U_i h + c_i)    input gate
    f = sigmoid(W_f x + b_f + U_f h + c_f)    forget gate
    g = tanh(W_g x + b_g + U_g h + c_g)       candidate
    o = sigmoid(W_o x + b_o + U_o h + c_o)    output gate
    c' = f * c + i * g                        memory
    h' = o * tanh(c')                         output

Differences from the papers. The cell is the one that PyTorch's fused function computes: each gate has two biases,
of which the papers have the sum (so Zaremba's models have 4,651,600, 19,775,200 and 66,022,000 parameters there, and
slightly more here); squashing is by tanh rather than by a logistic function scaled to (-2, 2) and (-1, 1); there are
no connections from the memory to the gates; the gradient is the whole one, not cut off at the gates.

Initialisation: recurrent matrices are orthogonal (Saxe et al., 2014), one per gate, what reads the input is uniform
with the variance of Glorot and Bengio (2010), and biases are zero but for the forget gate's, which is 1, for a
memory that lasts from the start (Jozefowicz et al., 2015).

Dropout is that of Zaremba et al.: on the embedding and on each layer's output, not from position to position. Tied
embeddings score a token by its own vector, without a bias (Press and Wolf, 2017; Inan et al., 2017); embeddings are
as wide as the state, so nothing stands in between.

Glossary: `dim` is the number of memory cells of a layer, `depth` the number of layers; `input` holds the papers' W_x
with b of all gates, `state` their W_h, U here, with c; in the first paper i and o are y^in and y^out, c is s_c.

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
class LSTMConfig:
    """What an LSTM reads, what it gives, and its size; the defaults are a language model of bytes."""

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

    num_states = 2  # output and memory
    over_sequence = staticmethod(torch.lstm)

    def __init__(self, in_features: int, dim: int) -> None:
        super().__init__()
        self.input = nn.Linear(in_features, 4 * dim)
        self.state = nn.Linear(dim, 4 * dim)

    @torch.no_grad()
    def init_weights(self) -> None:
        for weight in self.input.weight.chunk(4):
            nn.init.xavier_uniform_(weight)
        for weight in self.state.weight.chunk(4):
            nn.init.orthogonal_(weight)
        nn.init.zeros_(self.input.bias)
        nn.init.zeros_(self.state.bias)
        nn.init.ones_(self.input.bias.chunk(4)[1])

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        h, c = state
        i, f, g, o = (self.input(x) + self.state(h)).chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c


class LSTM(nn.Module):
    """Stacked layers of the cell between an embedding and a head; `generate` and `stream` continue a text."""

    forward = forward
    new_state = new_state
    step = step
    generate = generate
    stream = stream
    example_inputs = example_inputs

    def __init__(self, config: LSTMConfig) -> None:
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
    name="lstm",
    model=LSTM,
    config=LSTMConfig,
    task="text-generation",
    paper="https://doi.org/10.1162/neco.1997.9.8.1735",
    tiny=LSTMConfig(vocab_size=64, dim=16, depth=2),
    presets={
        "lstm_ptb_small": LSTMConfig(vocab_size=10_000, dim=200, depth=2, dropout=0.0),
        "lstm_ptb_medium": LSTMConfig(vocab_size=10_000, dim=650, depth=2, dropout=0.5),
        "lstm_ptb_large": LSTMConfig(vocab_size=10_000, dim=1500, depth=2, dropout=0.65),
    },
    params={
        "lstm": 1_184_000,
        "lstm_ptb_small": 4_653_200,
        "lstm_ptb_medium": 19_780_400,
        "lstm_ptb_large": 66_034_000,
    },
    aliases={},
)
