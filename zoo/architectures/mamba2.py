"""Mamba-2 (Dao and Gu, 2024).

"Transformers are SSMs: Generalized Models and Efficient Algorithms Through Structured State Space Duality":
https://arxiv.org/abs/2405.21060
Here is the block of figure 6, right, with the scan of section 6, in the sizes of Mamba's released models.

Mamba with one decay per head instead of one for every channel and state. So the state may be eight times as large, and
a whole text is read by matrix products. Everything that a head needs comes out of one projection of the input, and a
norm stands before the last projection. Where the paper is silent, the released code decides: the norm comes after the
gate and is of each group by itself, the head is tied to the embedding, the vocabulary filled up to a multiple of 16.
With weights in half precision the residual stream, time steps, decays and states stay float32, and norms read them so;
projections compute in the weights' precision.

Glossary: `dim` is the model's width; inside a mixer there are `expand * dim` channels in heads of `head_dim` (P).
`state_dim` is N, `groups` the number of pairs of B and C that heads share, `conv_width` the width of the convolution;
`A`, `B`, `C`, `D` and `delta` are the paper's, `h` the state.

tokens: (batch, seq) int64 in [0, vocab_size), of any length.
Output: logits of the next token at every position, (batch, seq, vocab).
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo import kernels
from zoo.nn.checks import check_state, check_tokens
from zoo.nn.generate import generate, stream
from zoo.nn.norm import RMSNorm
from zoo.registry import Architecture

DELTA_RANGE = (0.001, 0.1)
"""Time steps start in this range, spread evenly over its logarithm."""
DECAY_RANGE = (1.0, 16.0)
"""Heads' decays per unit of time start in this range."""

Memory = tuple[Tensor, Tensor]
"""What a block knows of the text so far: its convolution's last inputs, (batch, conv_width - 1, channels and B and C),
and its state, (batch, heads, head_dim, state_dim), float32."""


@dataclass(frozen=True, kw_only=True)
class Mamba2Config:
    """The size of a Mamba-2; the defaults are the smallest released model."""

    vocab_size: int = 50288
    """GPT-NeoX's 50,277 tokens, filled up to a multiple of 16."""
    dim: int = 768
    depth: int = 24
    state_dim: int = 128
    expand: int = 2
    """Channels inside a mixer, as a multiple of dim."""
    head_dim: int = 64
    groups: int = 1
    """Of heads that share B, C and the statistics of the norm."""
    conv_width: int = 4
    bias: bool = False
    """On a mixer's first and last projection."""
    conv_bias: bool = True
    norm_eps: float = 1e-5
    tie_embeddings: bool = True
    """Score tokens by the embedding's own matrix; there is then no `head` of its own."""

    def __post_init__(self) -> None:
        """Refuse sizes that do not fit together."""
        for name in ("vocab_size", "dim", "depth", "state_dim", "expand", "head_dim", "groups", "conv_width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is below 1")
        if not self.norm_eps > 0:
            raise ValueError(f"norm_eps {self.norm_eps} is not positive")
        channels = self.expand * self.dim
        if channels % self.head_dim:
            raise ValueError(f"expand x dim {channels} is not divisible by head_dim {self.head_dim}")
        if channels // self.head_dim % self.groups:
            raise ValueError(f"the {channels // self.head_dim} heads are not divisible by groups {self.groups}")


class GatedNorm(nn.Module):
    """A gate, then a root-mean-square norm of each group by itself."""

    def __init__(self, dim: int, groups: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(dim))
        self.groups, self.eps = groups, eps

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        x = wide(x) * F.silu(wide(gate))
        pairs = zip(x.chunk(self.groups, -1), wide(self.weight).chunk(self.groups), strict=True)
        return torch.cat([kernels.rms_norm(part, weight, self.eps) for part, weight in pairs], -1).to(gate.dtype)


class Mixer(nn.Module):
    """A gated state-space model with heads; figure 6."""

    no_weight_decay = ("A_log", "D", "delta_bias")

    def __init__(self, config: Mamba2Config) -> None:
        super().__init__()
        self.head_dim, self.groups = config.head_dim, config.groups
        channels, shared = config.expand * config.dim, config.groups * config.state_dim
        mixed, heads = channels + 2 * shared, channels // config.head_dim
        self.split, self.parts = (channels, mixed, heads), (channels, shared, shared)
        self.up = nn.Linear(config.dim, sum(self.split), bias=config.bias)
        self.conv = nn.Conv1d(mixed, mixed, config.conv_width, groups=mixed, bias=config.conv_bias)
        self.delta_bias = nn.Parameter(torch.empty(heads))
        self.A_log = nn.Parameter(torch.empty(heads))
        self.D = nn.Parameter(torch.empty(heads))
        self.norm = GatedNorm(channels, config.groups, config.norm_eps)
        self.proj = nn.Linear(channels, config.dim, bias=config.bias)

    def forward(self, x: Tensor, memory: Memory | None = None) -> tuple[Tensor, Memory]:
        past, h = memory or (None, None)
        gate, mixed, delta = self.up(x).split(self.split, -1)
        mixed, past = kernels.causal_conv1d(mixed, self.conv.weight.squeeze(1), self.conv.bias, past)
        x, B, C = mixed.split(self.parts, -1)
        x = x.unflatten(-1, (-1, self.head_dim))  # (batch, seq, heads, head_dim)
        B, C = (tensor.unflatten(-1, (self.groups, -1)) for tensor in (B, C))  # (batch, seq, groups, state_dim)
        delta = F.softplus(wide(delta) + wide(self.delta_bias))
        y, h = kernels.ssd_scan(x, delta, -wide(self.A_log).exp(), B, C, self.D, h)
        return self.proj(self.norm(y.flatten(-2), gate)), (past, h)

    def init_state_space(self) -> None:
        """Decays spread over `DECAY_RANGE`, and time steps over `DELTA_RANGE`."""
        with torch.no_grad():
            low, high = map(math.log, DELTA_RANGE)
            delta = torch.empty_like(self.delta_bias).uniform_(low, high).exp()
            self.delta_bias.copy_(delta + torch.log(-torch.expm1(-delta)))  # whose softplus is delta
            self.A_log.uniform_(*DECAY_RANGE).log_()
        nn.init.ones_(self.D)


def wide(tensor: Tensor) -> Tensor:
    """In float32 at least, for what decides how long a state lasts, and for the statistics of a norm."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


class Block(nn.Module):
    """A mixer, added to what it read through a norm."""

    def __init__(self, config: Mamba2Config) -> None:
        super().__init__()
        self.norm = RMSNorm(config.dim, config.norm_eps)
        self.mixer = Mixer(config)

    def forward(self, x: Tensor, memory: Memory | None = None) -> tuple[Tensor, Memory]:
        mixed, after = self.mixer(self.norm(x).to(self.norm.weight.dtype), memory)
        return x + mixed, after


class Mamba2(nn.Module):
    """The language model; `generate` and `stream` continue a text."""

    generate = generate
    stream = stream

    def __init__(self, config: Mamba2Config) -> None:
        """Build it; `init_weights` draws the weights."""
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocab_size, config.dim)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = RMSNorm(config.dim, config.norm_eps)
        self.head = None if config.tie_embeddings else nn.Linear(config.dim, config.vocab_size, bias=False)

    def init_weights(self) -> None:
        """Draw all weights anew.

        Source: the released code, which follows GPT-2 in the embedding's deviation and in scaling what is added to the
        residual stream by 1 / sqrt(number of such layers), and leaves other layers as PyTorch draws them.
        """
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv1d):
                module.reset_parameters()
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            elif isinstance(module, RMSNorm | GatedNorm):
                nn.init.ones_(module.weight)
        for module in self.modules():
            if isinstance(module, Mixer):
                module.init_state_space()
                module.proj.weight.data /= math.sqrt(self.config.depth)

    def forward(
        self, tokens: Tensor, state: list[Memory] | list[None] | None = None
    ) -> Tensor | tuple[Tensor, list[Memory]]:
        """Score the next token at every position.

        Args:
            tokens: (batch, seq) int64.
            state: what was read before, from `new_state`, or from the call that read it.

        Returns:
            Logits, (batch, seq, vocab); with a state also the state after the last token, for what follows.

        Raises:
            ValueError: tokens is something else, or has no position, or the state is of another model or batch.
        """
        x, after = self._read(tokens, self.new_state(0) if state is None else state)
        return self._score(x) if state is None else (self._score(x), after)

    def new_state(self, length: int) -> list[None]:
        """The memory of a text that is still empty, one entry for each block.

        Args:
            length: how many tokens it will have at the most; the memory has one size for all.
        """
        return [None] * self.config.depth

    def step(self, tokens: Tensor, state: list[Memory] | list[None]) -> tuple[Tensor, list[Memory]]:
        """Read on, and score the token after the last one.

        Args:
            tokens: (batch, seq) int64, what follows the text that `state` has seen.
            state: from `new_state` or the previous step; it is not changed.

        Returns:
            Logits, (batch, vocab), and the state after the last token.

        Raises:
            ValueError: as in `forward`.
        """
        x, state = self._read(tokens, state)
        return self._score(x[:, -1]), state

    def example_inputs(self, batch_size: int = 2) -> dict[str, Tensor]:
        """Random tokens, (batch, 32)."""
        shape = (batch_size, 32)
        return {"tokens": torch.randint(self.config.vocab_size, shape, device=self.embed.weight.device)}

    def _read(self, tokens: Tensor, state: list[Memory] | list[None]) -> tuple[Tensor, list[Memory]]:
        check_tokens(tokens)
        rows, config = tokens.shape[0], self.config
        channels = config.expand * config.dim
        mixed = channels + 2 * config.groups * config.state_dim
        heads = channels // config.head_dim, config.head_dim, config.state_dim
        check_state(state, config.depth, (rows, config.conv_width - 1, mixed), (rows, *heads))
        x, after = wide(self.embed(tokens)), []
        for block, memory in zip(self.blocks, state, strict=True):
            x, memory = block(x, memory)
            after.append(memory)
        return self.norm(x).to(self.norm.weight.dtype), after

    def _score(self, x: Tensor) -> Tensor:
        return F.linear(x, self.embed.weight) if self.head is None else self.head(x)


ARCHITECTURE = Architecture(
    name="mamba2",
    model=Mamba2,
    config=Mamba2Config,
    task="text-generation",
    paper="https://arxiv.org/abs/2405.21060",
    tiny=Mamba2Config(vocab_size=64, dim=16, depth=2, state_dim=8, head_dim=8, groups=2),
    presets={
        "mamba2_130m": Mamba2Config(dim=768, depth=24),
        "mamba2_370m": Mamba2Config(dim=1024, depth=48),
        "mamba2_780m": Mamba2Config(dim=1536, depth=48),
        "mamba2_1_3b": Mamba2Config(dim=2048, depth=48),
        "mamba2_2_7b": Mamba2Config(dim=2560, depth=64),
    },
    params={
        "mamba2": 128_989_632,
        "mamba2_130m": 128_989_632,
        "mamba2_370m": 368_346_624,
        "mamba2_780m": 780_161_280,
        "mamba2_1_3b": 1_343_757_312,
        "mamba2_2_7b": 2_702_599_680,
    },
    aliases={
        "state-spaces/mamba2-130m": "mamba2_130m",
        "state-spaces/mamba2-370m": "mamba2_370m",
        "state-spaces/mamba2-780m": "mamba2_780m",
        "state-spaces/mamba2-1.3b": "mamba2_1_3b",
        "state-spaces/mamba2-2.7b": "mamba2_2_7b",
    },
)
