"""What recurrent networks share, whatever their cell: layers on top of each other, and what stands before and behind.

A network gives the equations of its cell (`Cell`) and says which of PyTorch's fused functions runs them over a whole
sequence. Here the rest is made of it: `embedding`, `stack` and `head` are its parts, `forward`, `new_state`, `step`
and `example_inputs` its verbs, which a model class takes over by lines such as `forward = forward`. So one config
makes a language model (tokens in, logits of the next one out), a classifier of sequences, or a forecaster (numbers
in, numbers out at every position).

The state is a list with one entry per layer: a tuple of tensors (batch, dim) of which the first is what the layer
puts out, or None before the first token. It is differentiable; where a text is learnt piece by piece (truncated
back-propagation through time), the caller detaches it between the pieces.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from zoo.nn.checks import check_state, check_tokens

EXAMPLE_SEQ = 16
"""Positions of an example; there is no longest sequence to take."""

State = list[tuple[Tensor, ...]] | list[None]
"""What each layer remembers."""


class Sizes(Protocol):
    """The config of a recurrent network."""

    @property
    def vocab_size(self) -> int | None: ...
    @property
    def in_features(self) -> int | None: ...
    @property
    def num_classes(self) -> int | None: ...
    @property
    def out_features(self) -> int | None: ...
    @property
    def dim(self) -> int: ...
    @property
    def depth(self) -> int: ...
    @property
    def bidirectional(self) -> bool: ...
    @property
    def dropout(self) -> float: ...
    @property
    def tie_embeddings(self) -> bool: ...


class Cell(Protocol):
    """One position of one layer in one direction: an nn.Module that holds the weights and the equations."""

    num_states: ClassVar[int]
    """How many tensors it remembers."""
    over_sequence: ClassVar[Callable[..., tuple[Tensor, ...]]]
    """The function of PyTorch that runs the same equations over a sequence: torch.rnn_tanh, torch.gru, torch.lstm."""
    input: nn.Linear
    """From what it reads to all its gates, side by side."""
    state: nn.Linear
    """From what it put out before to all its gates."""

    def __call__(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Read one position.

        Args:
            x: (batch, in_features).
            state: tensors (batch, dim), the first of which is the output before.

        Returns:
            The state after it, of the same shapes.
        """
        ...


class Network(Protocol):
    """What the verbs here need of a model."""

    @property
    def config(self) -> Sizes: ...
    @property
    def embed(self) -> nn.Embedding | None: ...
    @property
    def blocks(self) -> Iterable[Any]: ...
    @property
    def dropout(self) -> nn.Dropout: ...
    @property
    def head(self) -> nn.Linear | None: ...


def check(config: Sizes) -> None:
    """Refuse sizes that do not fit together.

    Raises:
        ValueError: a size is below 1, dropout keeps nothing, there is not exactly one kind of input or more than one
            kind of output, or an option belongs to another use of the network.
    """
    for name in ("vocab_size", "in_features", "num_classes", "out_features", "dim", "depth"):
        size = getattr(config, name)
        if size is not None and size < 1:
            raise ValueError(f"{name} {size} is below 1")
    if not 0 <= config.dropout < 1:
        raise ValueError(f"dropout {config.dropout} is not in [0, 1)")
    inputs = f"vocab_size {config.vocab_size} and in_features {config.in_features}"
    if (config.vocab_size is None) == (config.in_features is None):
        raise ValueError(f"{inputs}: the network reads either tokens or numbers; set one and make the other None")
    outputs = f"num_classes {config.num_classes} and out_features {config.out_features}"
    if config.num_classes is not None and config.out_features is not None:
        raise ValueError(f"{outputs}: the network either classifies or predicts numbers; leave one of them None")
    if config.vocab_size is None and config.num_classes is None and config.out_features is None:
        raise ValueError(f"in_features {config.in_features} without an output; set num_classes or out_features")
    if config.bidirectional and _predicts_tokens(config):
        raise ValueError(
            "bidirectional True: a language model would read the tokens that it predicts; "
            "make it False, or set num_classes or out_features"
        )
    if config.tie_embeddings and not _predicts_tokens(config):
        raise ValueError(f"tie_embeddings True, but with {inputs}, {outputs} no token is scored; make it False")


def _predicts_tokens(config: Sizes) -> bool:
    return config.vocab_size is not None and config.num_classes is None and config.out_features is None


class Layer(nn.Module):
    """A cell over a sequence, and when bidirectional another one that reads it from its end."""

    def __init__(self, ahead: Any, back: Any = None) -> None:
        """Join the cells.

        Args:
            ahead: the `Cell` that reads from the first position on.
            back: the one that reads from the last position on, or None.
        """
        super().__init__()
        self.ahead: Cell = ahead
        self.back: Cell | None = back

    def forward(
        self, x: Tensor, state: tuple[Tensor, ...] | None = None, batch_sizes: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Run over whole sequences.

        Args:
            x: (batch, seq, features), or the data of packed sequences, (positions, features).
            state: what to start from, tensors (batch, dim); without it from zeros, in both directions.
            batch_sizes: of packed sequences, (seq,) int64 on the CPU: how many of them have that position.

        Returns:
            The outputs, (batch, seq, directions * dim) or (positions, directions * dim), and the last state of each
            direction, tensors (directions, batch, dim).
        """
        cells = [self.ahead] if self.back is None else [self.ahead, self.back]
        if state is None:
            rows = x.shape[0] if batch_sizes is None else int(batch_sizes[0])
            start = [x.new_zeros(len(cells), rows, self.ahead.state.in_features)] * self.ahead.num_states
        else:
            start = [part.unsqueeze(0) for part in state]
        before = start if len(start) > 1 else start[0]  # torch.lstm takes a list, the others a tensor
        weights = [
            weight
            for cell in cells
            for weight in (cell.input.weight, cell.state.weight, cell.input.bias, cell.state.bias)
        ]
        options = (True, 1, 0.0, self.training, len(cells) > 1)  # biases, one layer, no dropout, train, bidirectional
        if batch_sizes is None:
            x, *after = self.ahead.over_sequence(x, before, weights, *options, True)  # the batch comes first
        else:
            x, *after = self.ahead.over_sequence(x, batch_sizes, before, weights, *options)
        return x, tuple(after)


def embedding(config: Sizes) -> nn.Embedding | None:
    """A vector per token, as wide as the state; numbers need none."""
    return None if config.vocab_size is None else nn.Embedding(config.vocab_size, config.dim)


def stack(cell: Callable[[int, int], Any], config: Sizes) -> nn.ModuleList:
    """The layers, each reading what the one below puts out.

    Args:
        cell: makes a `Cell` of how many features it reads and of how many it has itself.
        config: the network's.
    """
    directions = 1 + config.bidirectional
    widths = [config.in_features or config.dim, *[directions * config.dim] * (config.depth - 1)]
    return nn.ModuleList(Layer(*(cell(width, config.dim) for _ in range(directions))) for width in widths)


def head(config: Sizes) -> nn.Linear | None:
    """From the last layer to what is asked for; with tied embeddings there is none."""
    outputs = config.num_classes or config.out_features or config.vocab_size
    if config.tie_embeddings or outputs is None:
        return None
    return nn.Linear((1 + config.bidirectional) * config.dim, outputs)


def init_ends(embed: nn.Embedding | None, head: nn.Linear | None) -> None:
    """Draw the weights before and behind the layers anew.

    The head is drawn as the layers' inputs are, uniform with the variance of Glorot and Bengio (2010), without bias.
    Embeddings have deviation 1; where they score tokens as well, they have length 1, for logits that start small.
    """
    if embed is not None:
        nn.init.normal_(embed.weight, std=1.0 if head is not None else embed.embedding_dim**-0.5)
    if head is not None:
        nn.init.xavier_uniform_(head.weight)
        nn.init.zeros_(head.bias)


def forward(
    model: Network,
    tokens: Tensor | None = None,
    state: State | None = None,
    *,
    features: Tensor | None = None,
    mask: Tensor | None = None,
) -> Any:
    """Read sequences and score them.

    Args:
        model: the network.
        tokens: (batch, seq) int64; a network of numbers takes its features in this place too.
        state: from `new_state` or from the piece before, whose text is read on; by default a text begins.
        features: (batch, seq, in_features) float, instead of tokens.
        mask: (batch, seq) bool, True = valid; each row begins valid and ends in any number of padded positions.
            What stands there changes nothing, and outputs there are those of a zero input to the head.

    Returns:
        Logits of the next token, (batch, seq, vocab); of a classifier (batch, num_classes), from the last valid
        position, joined with the first one of the direction back; of a forecaster predictions, (batch, seq,
        out_features). When a state was given, a pair: that, and the state after the last valid position.

    Raises:
        ValueError: the input is missing, double, empty or of another shape, the mask is not of this form, the state
            is of another network or batch, or a bidirectional network was given one.
    """
    x, last, after = _read(model, _checked(model.config, tokens, features), state, mask)
    scores = _score(model, x if model.config.num_classes is None else last)
    return scores if state is None else (scores, after)


def new_state(model: Network, length: int | None = None) -> list[None]:  # noqa: ARG001 - all decoders are told it
    """The state of an empty text.

    Args:
        model: the network.
        length: how long the text may become; what a recurrent network remembers does not grow with it.

    Raises:
        ValueError: the network is bidirectional.
    """
    _check_one_way(model.config)
    return [None] * model.config.depth


def step(model: Network, tokens: Tensor, state: State) -> tuple[Tensor, State]:
    """Read on, and score what comes after the last position.

    One position is read by the cells' equations, more than one by PyTorch's fused function.

    Args:
        model: the network.
        tokens: (batch, seq) int64, or features (batch, seq, in_features), what follows all that `state` has seen.
        state: from `new_state` or the previous step.

    Returns:
        Logits or predictions, (batch, vocab, num_classes or out_features), and the state.

    Raises:
        ValueError: the input has another shape, the state is of another network or batch, or the network is
            bidirectional.
    """
    x = _checked(model.config, tokens, None)
    if x.shape[1] > 1 or any(layer is None for layer in state):
        _, last, after = _read(model, x, state, None)
        return _score(model, last), after
    _check_state(model, state, x.shape[0])
    x, after = _embedded(model, x[:, 0]), []
    for block, before in zip(model.blocks, state, strict=True):
        after.append(block.ahead(x, before))
        x = model.dropout(after[-1][0])
    return _score(model, x), after


def example_inputs(model: Network, batch_size: int = 2) -> dict[str, Tensor]:
    """Short sequences at random."""
    config, weight = model.config, next(iter(model.blocks)).ahead.input.weight
    if config.vocab_size is not None:
        shape = (batch_size, EXAMPLE_SEQ)
        return {"tokens": torch.randint(config.vocab_size, shape, device=weight.device)}
    shape = (batch_size, EXAMPLE_SEQ, config.in_features or 0)
    return {"features": torch.randn(shape, device=weight.device, dtype=weight.dtype)}


def _checked(config: Sizes, tokens: Tensor | None, features: Tensor | None) -> Tensor:
    """The input, which is either of the two."""
    x = features if tokens is None else tokens
    if x is None or (tokens is not None and features is not None):
        given = "neither tokens nor features" if x is None else "both tokens and features"
        raise ValueError(f"forward was given {given}; give the one that the network reads")
    if config.in_features is None:
        check_tokens(x)
    elif x.ndim != 3 or x.shape[1] == 0 or x.shape[2] != config.in_features:
        shape = f"(batch, seq, in_features {config.in_features})"
        raise ValueError(f"features must be {shape}, seq at least 1, got shape {tuple(x.shape)}")
    return x


def _check_one_way(config: Sizes) -> None:
    if config.bidirectional:
        raise ValueError("a bidirectional network reads the whole sequence at once and has no state; use forward alone")


def _check_state(model: Network, state: State, rows: int) -> None:
    """PyTorch's functions look at no state's shape: they read on behind its end."""
    _check_one_way(model.config)
    cell = next(iter(model.blocks)).ahead
    check_state(state, model.config.depth, *[(rows, model.config.dim)] * cell.num_states)


def _embedded(model: Network, x: Tensor) -> Tensor:
    return x if model.embed is None else model.dropout(model.embed(x))


def _read(model: Network, x: Tensor, state: State | None, mask: Tensor | None) -> tuple[Tensor, Tensor, State]:
    """The last layer's outputs, (batch, seq, features), its final ones, (batch, features), and the state."""
    if state is None:
        state = [None] * model.config.depth
    else:
        _check_state(model, state, x.shape[0])
    x = _embedded(model, x)
    if mask is None:
        x, after = _run(model, x, state)
    elif mask.shape != x.shape[:2] or mask.dtype != torch.bool:
        raise ValueError(
            f"mask must be (batch, seq) = {tuple(x.shape[:2])} bool, got {mask.dtype} of shape {tuple(mask.shape)}; "
            f"mask.bool() reads its ones and not its zeros"
        )
    else:
        order = mask.sum(1).argsort(descending=True)  # packed sequences stand with the longest first
        packed = _packed(x[order], mask[order])
        x, after = _run(model, packed.data, _select(state, order), packed.batch_sizes)
        packed, restored = PackedSequence(x, packed.batch_sizes), order.argsort()
        x = pad_packed_sequence(packed, batch_first=True, total_length=mask.shape[1])[0][restored]
        after = _select(after, restored, axis=1)
    last = model.dropout(after[-1][0].movedim(0, 1).flatten(1))
    return x, last, [tuple(part[0] for part in layer) for layer in after]


def _run(
    model: Network, x: Tensor, state: Sequence[Any], batch_sizes: Tensor | None = None
) -> tuple[Tensor, list[tuple[Tensor, ...]]]:
    """All layers; see `Layer` for shapes."""
    after = []
    for block, before in zip(model.blocks, state, strict=True):
        x, last = block(x, before, batch_sizes)
        x = model.dropout(x)
        after.append(last)
    return x, after


def _packed(x: Tensor, mask: Tensor) -> PackedSequence:
    """The valid positions alone, of rows of which the longest come first."""
    lengths = mask.sum(1)
    prefix = torch.arange(mask.shape[1], device=mask.device) < lengths[:, None]
    if not (mask == prefix).all() or not lengths.all():
        raise ValueError("a mask's row must be True from its first position on, then False; pad on the right")
    return pack_padded_sequence(x, lengths.cpu(), batch_first=True)


def _select(state: Sequence[Any], rows: Tensor, axis: int = 0) -> list[Any]:
    return [layer and tuple(part.index_select(axis, rows) for part in layer) for layer in state]


def _score(model: Network, x: Tensor) -> Tensor:
    if model.head is not None:
        return model.head(x)
    return x if model.embed is None else F.linear(x, model.embed.weight)
