"""Llama (Touvron et al., 2023; Grattafiori et al., 2024).

"LLaMA: Open and efficient foundation language models", https://arxiv.org/abs/2302.13971, section 2.2 and table 2;
"Llama 2", https://arxiv.org/abs/2307.09288, table 1, which adds grouped queries; "The Llama 3 herd of models",
https://arxiv.org/abs/2407.21783, table 3.

A decoder-only transformer that differs from GPT-2 in four ways: root-mean-square norms, positions that turn queries
and keys instead of being added to the embedding, an MLP with a gate, and no biases anywhere; in the larger models
several heads share the keys and values of one. The papers do not say how weights are drawn; normal with a deviation
of .02, and what is added to the residual stream scaled by 1 / sqrt(number of such layers), is as in GPT-2.
Llama 3.1 and later read longer texts by turning the slow pairs of features more slowly (`rope_scaling`).

Glossary: `dim` is the papers' dimension, `depth` their n layers, `num_kv_heads` their key/value heads, `mlp_dim` the
FFN dimension, `rope_theta` the base of the rotations' wavelengths.

tokens: (batch, seq) int64 in [0, vocab_size), seq at most max_seq_len.
Output: logits of the next token at every position, (batch, seq, vocab).
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo import kernels
from zoo.nn.checks import check_state, check_tokens
from zoo.nn.generate import KVCache, generate, stream
from zoo.nn.norm import RMSNorm
from zoo.registry import Architecture

SCALINGS = ("none", "linear", "llama3")


@dataclass(frozen=True, kw_only=True)
class LlamaConfig:
    """The size of a Llama; the defaults are Llama 2 with 7 billion parameters."""

    vocab_size: int = 32000
    max_seq_len: int = 4096
    dim: int = 4096
    depth: int = 32
    num_heads: int = 32
    num_kv_heads: int = 32
    """Heads of keys and values; each serves num_heads / num_kv_heads heads of queries."""
    mlp_dim: int = 11008
    norm_eps: float = 1e-5
    rope_theta: float = 10_000.0
    rope_scaling: str = "none"
    """`linear` turns all pairs `rope_factor` times more slowly, `llama3` only those that turn slowly already."""
    rope_factor: float = 1.0
    rope_low_freq_factor: float = 1.0
    """Of `llama3`: pairs that turn fewer times than this within `rope_original_length` are slowed down in full."""
    rope_high_freq_factor: float = 4.0
    """Of `llama3`: pairs that turn more often than this are left alone; in between the change is gradual."""
    rope_original_length: int = 8192
    """Of `llama3`: the context that the model had before it was taught longer ones."""
    tie_embeddings: bool = False
    """Score tokens by the embedding's own matrix; there is then no `head` of its own."""

    def __post_init__(self) -> None:
        """Refuse sizes that do not fit together."""
        for name in ("vocab_size", "max_seq_len", "dim", "depth", "num_heads", "num_kv_heads", "mlp_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is below 1")
        if self.dim % (2 * self.num_heads):
            raise ValueError(
                f"dim {self.dim} is not divisible by 2 * num_heads {self.num_heads}: features turn in pairs"
            )
        if self.num_heads % self.num_kv_heads:
            raise ValueError(f"num_heads {self.num_heads} is not divisible by num_kv_heads {self.num_kv_heads}")
        if self.rope_scaling not in SCALINGS:
            raise ValueError(f"rope_scaling {self.rope_scaling!r} is not among {', '.join(SCALINGS)}")
        for name in ("norm_eps", "rope_theta", "rope_factor", "rope_low_freq_factor", "rope_original_length"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} {getattr(self, name)} is not positive")
        if self.rope_scaling == "none" and self.rope_factor != 1:
            raise ValueError(
                f"rope_factor {self.rope_factor} does nothing with rope_scaling 'none'; make it 1, or set the scaling"
            )
        if self.rope_high_freq_factor <= self.rope_low_freq_factor:
            raise ValueError(
                f"rope_high_freq_factor {self.rope_high_freq_factor} is not above rope_low_freq_factor "
                f"{self.rope_low_freq_factor}"
            )


def rope_frequencies(config: LlamaConfig, device: torch.device) -> Tensor:
    """How far each pair of features turns from one position to the next.

    Returns:
        (head_dim / 2,) float32, radians, falling from 1.

    Source: Su et al., 2021, "RoFormer", section 3.2.2; `llama3`: the code that was released with Llama 3.1.
    """
    half = config.dim // config.num_heads // 2
    frequencies = config.rope_theta ** -(torch.arange(half, device=device, dtype=torch.float32) / half)
    if config.rope_scaling == "linear":
        return frequencies / config.rope_factor
    if config.rope_scaling == "llama3":
        low, high = config.rope_low_freq_factor, config.rope_high_freq_factor
        turns = config.rope_original_length * frequencies / (2 * math.pi)
        kept = ((turns - low) / (high - low)).clamp(0, 1)
        return kept * frequencies + (1 - kept) * frequencies / config.rope_factor
    return frequencies


class Attention(nn.Module):
    """Each position looks at itself and at those before it; several heads share keys and values."""

    def __init__(self, dim: int, num_heads: int, num_kv_heads: int) -> None:
        super().__init__()
        self.head_dim = dim // num_heads
        self.shared = num_kv_heads < num_heads
        self.query = nn.Linear(dim, dim, bias=False)
        self.key = nn.Linear(dim, num_kv_heads * self.head_dim, bias=False)
        self.value = nn.Linear(dim, num_kv_heads * self.head_dim, bias=False)
        self.proj = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, cache: KVCache | None = None) -> Tensor:
        query, key, value = (
            layer(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)  # (batch, heads, seq, head_dim)
            for layer in (self.query, self.key, self.value)
        )
        query, key = kernels.rope(query, cos, sin), kernels.rope(key, cos, sin)
        past, mask = 0, None
        if cache is not None:
            past = cache.length
            key, value = cache.append(key, value)
            if past and x.shape[1] > 1:  # a single token sees everything, and a text from its start is is_causal
                mask = x.new_ones(x.shape[1], cache.length, dtype=torch.bool).tril(past)
        mixed = F.scaled_dot_product_attention(query, key, value, mask, is_causal=past == 0, enable_gqa=self.shared)
        return self.proj(mixed.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """A layer, weighted by a gate.

    Source: Shazeer, 2020, "GLU variants improve transformer", equation 6 (SwiGLU).
    """

    def __init__(self, dim: int, mlp_dim: int) -> None:
        super().__init__()
        self.gate = nn.Linear(dim, mlp_dim, bias=False)
        self.up = nn.Linear(dim, mlp_dim, bias=False)
        self.proj = nn.Linear(mlp_dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(kernels.swiglu(self.gate(x), self.up(x)))


class Block(nn.Module):
    """Attention, then the MLP, each added to what it read through a norm."""

    def __init__(self, dim: int, num_heads: int, num_kv_heads: int, mlp_dim: int, norm_eps: float) -> None:
        super().__init__()
        self.norm1 = RMSNorm(dim, norm_eps)
        self.attn = Attention(dim, num_heads, num_kv_heads)
        self.norm2 = RMSNorm(dim, norm_eps)
        self.mlp = MLP(dim, mlp_dim)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, cache: KVCache | None = None) -> Tensor:
        mixed = self.attn(self.norm1(x), cos, sin, cache)
        normed, x = kernels.add_rms_norm(x, mixed, self.norm2.weight, self.norm2.eps)
        return x + self.mlp(normed)


class Llama(nn.Module):
    """The language model; `generate` and `stream` continue a text."""

    generate = generate
    stream = stream

    def __init__(self, config: LlamaConfig) -> None:
        """Build it; `init_weights` draws the weights."""
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocab_size, config.dim)
        self.blocks = nn.ModuleList(
            Block(config.dim, config.num_heads, config.num_kv_heads, config.mlp_dim, config.norm_eps)
            for _ in range(config.depth)
        )
        self.norm = RMSNorm(config.dim, config.norm_eps)
        self.head = None if config.tie_embeddings else nn.Linear(config.dim, config.vocab_size, bias=False)

    def init_weights(self) -> None:
        """Draw all weights anew; see the top of the file."""
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                scale = 1 / math.sqrt(2 * self.config.depth) if name.endswith(".proj") else 1.0
                nn.init.normal_(module.weight, std=0.02 * scale)
            elif isinstance(module, RMSNorm):
                nn.init.ones_(module.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        """Score the next token at every position.

        Args:
            tokens: (batch, seq) int64.

        Returns:
            Logits, (batch, seq, vocab).

        Raises:
            ValueError: tokens is something else, or has no position or more than the model.
        """
        return self._score(self._read(tokens, [None] * self.config.depth))

    def new_state(self, length: int) -> list[KVCache]:
        """Key-value caches for a text that is still empty.

        Args:
            length: how many tokens it will have at the most.

        Raises:
            ValueError: it is more than max_seq_len.
        """
        self._check_length(length)
        return [KVCache(length) for _ in self.blocks]

    def step(self, tokens: Tensor, state: list[KVCache]) -> tuple[Tensor, list[KVCache]]:
        """Read on, and score the token after the last one.

        Args:
            tokens: (batch, seq) int64, what follows the text that `state` has seen.
            state: from `new_state` or the previous step; it is extended in place, for which reason no gradient goes
                through a text that was read in several steps.

        Returns:
            Logits, (batch, vocab), and the state.

        Raises:
            ValueError: tokens is something else, or the state is full or of another model or batch.
        """
        return self._score(self._read(tokens, state)[:, -1]), state

    def example_inputs(self, batch_size: int = 2) -> dict[str, Tensor]:
        """Random tokens, (batch, max_seq_len), but never more than 64 of them."""
        shape = (batch_size, min(64, self.config.max_seq_len))
        return {"tokens": torch.randint(self.config.vocab_size, shape, device=self.embed.weight.device)}

    def _read(self, tokens: Tensor, caches: list[KVCache] | list[None]) -> Tensor:
        check_tokens(tokens)
        check_state(caches, self.config.depth)
        past = caches[0].length if caches[0] is not None else 0
        end = past + tokens.shape[1]
        self._check_length(end)
        x = self.embed(tokens)
        # computed here and in float32, for a buffer would lose its bits with the model's dtype
        position = torch.arange(past, end, device=x.device, dtype=torch.float32)
        angle = position[:, None] * rope_frequencies(self.config, x.device)
        cos, sin = angle.cos(), angle.sin()  # (seq, head_dim / 2)
        for block, cache in zip(self.blocks, caches, strict=True):
            x = block(x, cos, sin, cache)
        return self.norm(x)

    def _score(self, x: Tensor) -> Tensor:
        return F.linear(x, self.embed.weight) if self.head is None else self.head(x)

    def _check_length(self, length: int) -> None:
        if length > self.config.max_seq_len:
            raise ValueError(
                f"{length} tokens, prompt and continuation together, are more than max_seq_len "
                f"{self.config.max_seq_len}; shorten the prompt to its last tokens, or ask for fewer"
            )


def _llama3(
    dim: int, depth: int, num_heads: int, mlp_dim: int, rope_factor: float = 1.0, tied: bool = False
) -> LlamaConfig:
    """Llama 3, or with a factor 3.1 and 3.2, which read 131072 tokens."""
    longer = rope_factor != 1
    return LlamaConfig(
        vocab_size=128256, max_seq_len=131072 if longer else 8192, dim=dim, depth=depth, num_heads=num_heads,
        num_kv_heads=8, mlp_dim=mlp_dim, rope_theta=500_000.0, rope_scaling="llama3" if longer else "none",
        rope_factor=rope_factor, tie_embeddings=tied,
    )  # fmt: skip


ARCHITECTURE = Architecture(
    name="llama",
    model=Llama,
    config=LlamaConfig,
    task="text-generation",
    paper="https://arxiv.org/abs/2307.09288",
    tiny=LlamaConfig(vocab_size=64, max_seq_len=16, dim=16, depth=2, num_heads=4, num_kv_heads=2, mlp_dim=24),
    presets={
        "llama2_7b": LlamaConfig(),
        "llama2_13b": LlamaConfig(dim=5120, depth=40, num_heads=40, num_kv_heads=40, mlp_dim=13824),
        "llama2_70b": LlamaConfig(dim=8192, depth=80, num_heads=64, num_kv_heads=8, mlp_dim=28672),
        "llama3_8b": _llama3(dim=4096, depth=32, num_heads=32, mlp_dim=14336),
        "llama3_70b": _llama3(dim=8192, depth=80, num_heads=64, mlp_dim=28672),
        "llama3_1_8b": _llama3(dim=4096, depth=32, num_heads=32, mlp_dim=14336, rope_factor=8.0),
        "llama3_2_1b": _llama3(dim=2048, depth=16, num_heads=32, mlp_dim=8192, rope_factor=32.0, tied=True),
        "llama3_2_3b": _llama3(dim=3072, depth=28, num_heads=24, mlp_dim=8192, rope_factor=32.0, tied=True),
        "tinyllama_1_1b": LlamaConfig(
            max_seq_len=2048, dim=2048, depth=22, num_heads=32, num_kv_heads=4, mlp_dim=5632
        ),
        "smollm2_135m": LlamaConfig(
            vocab_size=49152, max_seq_len=8192, dim=576, depth=30, num_heads=9, num_kv_heads=3, mlp_dim=1536,
            rope_theta=100_000.0, tie_embeddings=True,
        ),
        "smollm2_360m": LlamaConfig(
            vocab_size=49152, max_seq_len=8192, dim=960, depth=32, num_heads=15, num_kv_heads=5, mlp_dim=2560,
            rope_theta=100_000.0, tie_embeddings=True,
        ),
        "smollm2_1_7b": LlamaConfig(
            vocab_size=49152, max_seq_len=8192, dim=2048, depth=24, num_heads=32, num_kv_heads=32, mlp_dim=8192,
            rope_theta=130_000.0, tie_embeddings=True,
        ),
        "llama2c_260k": LlamaConfig(
            vocab_size=512, max_seq_len=512, dim=64, depth=5, num_heads=8, num_kv_heads=4, mlp_dim=172,
            tie_embeddings=True,
        ),
        "llama2c_15m": LlamaConfig(
            max_seq_len=256, dim=288, depth=6, num_heads=6, num_kv_heads=6, mlp_dim=768, tie_embeddings=True
        ),
        "llama2c_42m": LlamaConfig(
            max_seq_len=1024, dim=512, depth=8, num_heads=8, num_kv_heads=8, mlp_dim=1376, tie_embeddings=True
        ),
        "llama2c_110m": LlamaConfig(
            max_seq_len=1024, dim=768, depth=12, num_heads=12, num_kv_heads=12, mlp_dim=2048, tie_embeddings=True
        ),
    },
    params={
        "llama": 6_738_415_616,
        "llama2_7b": 6_738_415_616,
        "llama2_13b": 13_015_864_320,
        "llama2_70b": 68_976_648_192,
        "llama3_8b": 8_030_261_248,
        "llama3_70b": 70_553_706_496,
        "llama3_1_8b": 8_030_261_248,
        "llama3_2_1b": 1_235_814_400,
        "llama3_2_3b": 3_212_749_824,
        "tinyllama_1_1b": 1_100_048_384,
        "smollm2_135m": 134_515_008,
        "smollm2_360m": 361_821_120,
        "smollm2_1_7b": 1_711_376_384,
        "llama2c_260k": 260_032,
        "llama2c_15m": 15_191_712,
        "llama2c_42m": 41_689_600,
        "llama2c_110m": 109_529_856,
    },
    aliases={
        "meta-llama/Llama-2-7b-hf": "llama2_7b",
        "meta-llama/Llama-2-13b-hf": "llama2_13b",
        "meta-llama/Llama-2-70b-hf": "llama2_70b",
        "meta-llama/Meta-Llama-3-8B": "llama3_8b",
        "meta-llama/Meta-Llama-3-70B": "llama3_70b",
        "meta-llama/Llama-3.1-8B": "llama3_1_8b",
        "meta-llama/Llama-3.2-1B": "llama3_2_1b",
        "meta-llama/Llama-3.2-3B": "llama3_2_3b",
        "TinyLlama/TinyLlama-1.1B-Chat-v1.0": "tinyllama_1_1b",
        "HuggingFaceTB/SmolLM2-135M": "smollm2_135m",
        "HuggingFaceTB/SmolLM2-360M": "smollm2_360m",
        "HuggingFaceTB/SmolLM2-1.7B": "smollm2_1_7b",
    },
)  # fmt: skip
