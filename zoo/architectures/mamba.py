"""Mamba (Gu and Dao, 2023).

"Mamba: Linear-Time Sequence Modeling with Selective State Spaces": https://arxiv.org/abs/2312.00752
Here is the block of figure 3 with the selective scan of algorithm 2, in the sizes of table 12.

A language model without attention: every channel is a small linear recurrence whose coefficients depend on the
token, so that the model may keep what matters and forget the rest. Reading a text costs time proportional to its
length and memory for a state of fixed size; there is no longest text. Where the paper is silent, the released code
decides: root-mean-square norms, the head tied to the embedding, a vocabulary filled up to a multiple of 8, B
discretised by its first-order form, and the weights' start. With weights in half precision the residual stream, time
steps, decays and states stay float32, and norms read the stream so; projections compute in the weights' precision.

Glossary: `dim` is the paper's D and `expand` its E; inside a mixer there are `expand * dim` channels. `state_dim` is N,
`conv_width` the width of the convolution, `dt_rank` the rank of delta's projection (R); `A`, `B`, `C`, `D` and `delta`
are the paper's, `h` the state.

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
"""Time steps start in this range, spread evenly over its logarithm; section 3.6."""

Memory = tuple[Tensor, Tensor]
"""What a block knows of the text so far: its convolution's last inputs, (batch, conv_width - 1, channels), and its
state, (batch, channels, state_dim), float32."""


@dataclass(frozen=True, kw_only=True)
class MambaConfig:
    """The size of a Mamba; the defaults are the smallest released model."""

    vocab_size: int = 50280
    """GPT-NeoX's 50,277 tokens, filled up to a multiple of 8."""
    dim: int = 768
    depth: int = 24
    state_dim: int = 16
    expand: int = 2
    """Channels inside a mixer, as a multiple of dim."""
    conv_width: int = 4
    dt_rank: int = 48
    """Of the projection that makes the time steps; dim / 16 in all released models."""
    bias: bool = False
    """On a mixer's first and last projection."""
    conv_bias: bool = True
    norm_eps: float = 1e-5
    tie_embeddings: bool = True
    """Score tokens by the embedding's own matrix; there is then no `head` of its own."""

    def __post_init__(self) -> None:
        """Refuse sizes that nothing could be built of."""
        for name in ("vocab_size", "dim", "depth", "state_dim", "expand", "conv_width", "dt_rank"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is below 1")
        if not self.norm_eps > 0:
            raise ValueError(f"norm_eps {self.norm_eps} is not positive")


class Mixer(nn.Module):
    """A gated selective state-space model; figure 3."""

    no_weight_decay = ("A_log", "D")

    def __init__(self, config: MambaConfig) -> None:
        super().__init__()
        channels = config.expand * config.dim
        self.split = (config.dt_rank, config.state_dim, config.state_dim)
        self.up = nn.Linear(config.dim, 2 * channels, bias=config.bias)
        self.conv = nn.Conv1d(channels, channels, config.conv_width, groups=channels, bias=config.conv_bias)
        self.select = nn.Linear(channels, sum(self.split), bias=False)
        self.delta = nn.Linear(config.dt_rank, channels)
        self.A_log = nn.Parameter(torch.empty(channels, config.state_dim))
        self.D = nn.Parameter(torch.empty(channels))
        self.proj = nn.Linear(channels, config.dim, bias=config.bias)

    def forward(self, x: Tensor, memory: Memory | None = None) -> tuple[Tensor, Memory]:
        past, h = memory or (None, None)
        x, gate = self.up(x).chunk(2, -1)  # each (batch, seq, channels)
        x, past = kernels.causal_conv1d(x, self.conv.weight.squeeze(1), self.conv.bias, past)
        delta, B, C = self.select(x).split(self.split, -1)
        delta = F.softplus(wide(F.linear(delta, self.delta.weight)) + wide(self.delta.bias))
        y, h = kernels.selective_scan(x, delta, -wide(self.A_log).exp(), B, C, self.D, h)
        return self.proj(y * F.silu(gate)), (past, h)

    def init_state_space(self) -> None:
        """Decays at the rates 1 to state_dim in each channel, and time steps spread over `DELTA_RANGE`; section 3.6."""
        nn.init.uniform_(self.delta.weight, -(self.split[0] ** -0.5), self.split[0] ** -0.5)
        with torch.no_grad():
            low, high = map(math.log, DELTA_RANGE)
            delta = torch.empty_like(self.delta.bias).uniform_(low, high).exp()
            self.delta.bias.copy_(delta + torch.log(-torch.expm1(-delta)))  # whose softplus is delta
            self.A_log.copy_(torch.arange(1, self.A_log.shape[1] + 1, device=self.A_log.device).log())
        nn.init.ones_(self.D)


def wide(tensor: Tensor) -> Tensor:
    """In float32 at least, for what decides how long a state lasts."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


class Block(nn.Module):
    """A mixer, added to what it read through a norm."""

    def __init__(self, config: MambaConfig) -> None:
        super().__init__()
        self.norm = RMSNorm(config.dim, config.norm_eps)
        self.mixer = Mixer(config)

    def forward(self, x: Tensor, memory: Memory | None = None) -> tuple[Tensor, Memory]:
        mixed, after = self.mixer(self.norm(x).to(self.norm.weight.dtype), memory)
        return x + mixed, after


class Mamba(nn.Module):
    """The language model; `generate` and `stream` continue a text."""

    generate = generate
    stream = stream

    def __init__(self, config: MambaConfig) -> None:
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
            elif isinstance(module, RMSNorm):
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
        shapes = (rows, config.conv_width - 1, channels), (rows, channels, config.state_dim)
        check_state(state, config.depth, *shapes)
        x, after = wide(self.embed(tokens)), []
        for block, memory in zip(self.blocks, state, strict=True):
            x, memory = block(x, memory)
            after.append(memory)
        return self.norm(x).to(self.norm.weight.dtype), after

    def _score(self, x: Tensor) -> Tensor:
        return F.linear(x, self.embed.weight) if self.head is None else self.head(x)


ARCHITECTURE = Architecture(
    name="mamba",
    model=Mamba,
    config=MambaConfig,
    task="text-generation",
    paper="https://arxiv.org/abs/2312.00752",
    tiny=MambaConfig(vocab_size=64, dim=16, depth=2, state_dim=4, dt_rank=2),
    presets={
        "mamba_130m": MambaConfig(dim=768, depth=24, dt_rank=48),
        "mamba_370m": MambaConfig(dim=1024, depth=48, dt_rank=64),
        "mamba_790m": MambaConfig(dim=1536, depth=48, dt_rank=96),
        "mamba_1_4b": MambaConfig(dim=2048, depth=48, dt_rank=128),
        "mamba_2_8b": MambaConfig(dim=2560, depth=64, dt_rank=160),
    },
    params={
        "mamba": 129_135_360,
        "mamba_130m": 129_135_360,
        "mamba_370m": 371_516_416,
        "mamba_790m": 793_204_224,
        "mamba_1_4b": 1_372_178_432,
        "mamba_2_8b": 2_768_345_600,
    },
    aliases={
        "state-spaces/mamba-130m": "mamba_130m",
        "state-spaces/mamba-370m": "mamba_370m",
        "state-spaces/mamba-790m": "mamba_790m",
        "state-spaces/mamba-1.4b": "mamba_1_4b",
        "state-spaces/mamba-2.8b": "mamba_2_8b",
        "state-spaces/mamba-130m-hf": "mamba_130m",
        "state-spaces/mamba-370m-hf": "mamba_370m",
        "state-spaces/mamba-790m-hf": "mamba_790m",
        "state-spaces/mamba-1.4b-hf": "mamba_1_4b",
        "state-spaces/mamba-2.8b-hf": "mamba_2_8b",
    },
)
