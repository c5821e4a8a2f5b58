"""GPT-2 (Radford, Wu, Child, Luan, Amodei and Sutskever, 2019).

"Language Models are Unsupervised Multitask Learners", section 2.3 and table 2:
https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf

A decoder-only transformer with learned positions, layer norms before each sub-block and one after the last,
and the token embedding's matrix used again to score the next token. Where the paper is silent, the released
code decides: GELU by its tanh approximation, weights drawn with a deviation of .02 and positions with .01,
dropout as in GPT. The paper's table counts 117M to 1542M parameters; the released models have those below.

Glossary: `dim` is the table's d_model, `depth` its layers; `max_seq_len` the context, n_ctx in the code.

tokens: (batch, seq) int64 in [0, vocab_size), seq at most max_seq_len.
Output: logits of the next token at every position, (batch, seq, vocab).
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.nn.checks import check_state, check_tokens
from zoo.nn.generate import KVCache, generate, stream
from zoo.registry import Architecture


@dataclass(frozen=True, kw_only=True)
class GPT2Config:
    """The size of a GPT-2; the defaults are the smallest released model."""

    vocab_size: int = 50257
    """Byte pairs: 256 bytes, 50,000 merges, and the end of a text."""
    max_seq_len: int = 1024
    dim: int = 768
    depth: int = 12
    num_heads: int = 12
    dropout: float = 0.1
    """On the embeddings, the attention weights and each sub-block's output."""
    norm_eps: float = 1e-5
    tie_embeddings: bool = True
    """Score tokens by the embedding's own matrix; there is then no `head` of its own."""

    def __post_init__(self) -> None:
        """Refuse sizes that do not fit together."""
        for name in ("vocab_size", "max_seq_len", "dim", "depth", "num_heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is below 1")
        if self.dim % self.num_heads:
            raise ValueError(f"dim {self.dim} is not divisible by num_heads {self.num_heads}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout {self.dropout} is not in [0, 1)")
        if not self.norm_eps > 0:
            raise ValueError(f"norm_eps {self.norm_eps} is not positive")


class Attention(nn.Module):
    """Each position looks at itself and at those before it."""

    def __init__(self, dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, cache: KVCache | None = None) -> Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, -1))
        query, key, value = qkv.transpose(1, 3).unbind(2)  # each (batch, heads, seq, head_dim)
        past, mask = 0, None
        if cache is not None:
            past = cache.length
            key, value = cache.append(key, value)
            if past and x.shape[1] > 1:  # a single token sees everything, and a text from its start is is_causal
                mask = x.new_ones(x.shape[1], cache.length, dtype=torch.bool).tril(past)
        dropout = self.dropout.p if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, mask, dropout_p=dropout, is_causal=past == 0)
        return self.dropout(self.proj(mixed.transpose(1, 2).flatten(2)))


class MLP(nn.Module):
    """Two layers, four times as wide in between."""

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.up = nn.Linear(dim, 4 * dim)
        self.proj = nn.Linear(4 * dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.proj(F.gelu(self.up(x), approximate="tanh")))


class Block(nn.Module):
    """Attention, then the MLP, each added to what it read through a norm."""

    def __init__(self, dim: int, num_heads: int, dropout: float, norm_eps: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=norm_eps)
        self.attn = Attention(dim, num_heads, dropout)
        self.norm2 = nn.LayerNorm(dim, eps=norm_eps)
        self.mlp = MLP(dim, dropout)

    def forward(self, x: Tensor, cache: KVCache | None = None) -> Tensor:
        x = x + self.attn(self.norm1(x), cache)
        return x + self.mlp(self.norm2(x))


class GPT2(nn.Module):
    """The language model; `generate` and `stream` continue a text."""

    generate = generate
    stream = stream

    def __init__(self, config: GPT2Config) -> None:
        """Build it; `init_weights` draws the weights."""
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocab_size, config.dim)
        self.position = nn.Embedding(config.max_seq_len, config.dim)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            Block(config.dim, config.num_heads, config.dropout, config.norm_eps) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.dim, eps=config.norm_eps)
        self.head = None if config.tie_embeddings else nn.Linear(config.dim, config.vocab_size, bias=False)

    def init_weights(self) -> None:
        """Draw all weights anew.

        Source: section 2.3 scales what is added to the residual stream by 1 / sqrt(number of such layers).
        """
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                scale = 1 / math.sqrt(2 * self.config.depth) if name.endswith(".proj") else 1.0
                nn.init.normal_(module.weight, std=0.01 if module is self.position else 0.02 * scale)
            elif isinstance(module, nn.LayerNorm):
                nn.init.ones_(module.weight)
            if isinstance(module, nn.Linear | nn.LayerNorm) and module.bias is not None:
                nn.init.zeros_(module.bias)

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
        """Random tokens, (batch, max_seq_len)."""
        shape = (batch_size, self.config.max_seq_len)
        return {"tokens": torch.randint(self.config.vocab_size, shape, device=self.embed.weight.device)}

    def _read(self, tokens: Tensor, caches: list[KVCache] | list[None]) -> Tensor:
        check_tokens(tokens)
        check_state(caches, self.config.depth)
        past = caches[0].length if caches[0] is not None else 0
        end = past + tokens.shape[1]
        self._check_length(end)
        x = self.dropout(self.embed(tokens) + self.position.weight[past:end])
        for block, cache in zip(self.blocks, caches, strict=True):
            x = block(x, cache)
        return self.norm(x)

    def _score(self, x: Tensor) -> Tensor:
        return F.linear(x, self.embed.weight) if self.head is None else self.head(x)

    def _check_length(self, length: int) -> None:
        if length > self.config.max_seq_len:
            raise ValueError(
                f"{length} tokens, prompt and continuation together, are more than max_seq_len "
                f"{self.config.max_seq_len}; shorten the prompt to its last tokens, or ask for fewer"
            )


ARCHITECTURE = Architecture(
    name="gpt2",
    model=GPT2,
    config=GPT2Config,
    task="text-generation",
    paper="https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf",
    tiny=GPT2Config(vocab_size=64, max_seq_len=16, dim=16, depth=2, num_heads=2, dropout=0.0),
    presets={
        "gpt2": GPT2Config(dim=768, depth=12, num_heads=12),
        "gpt2_medium": GPT2Config(dim=1024, depth=24, num_heads=16),
        "gpt2_large": GPT2Config(dim=1280, depth=36, num_heads=20),
        "gpt2_xl": GPT2Config(dim=1600, depth=48, num_heads=25),
    },
    params={
        "gpt2": 124_439_808,
        "gpt2_medium": 354_823_168,
        "gpt2_large": 774_030_080,
        "gpt2_xl": 1_557_611_200,
    },
    aliases={
        "openai-community/gpt2": "gpt2",
        "openai-community/gpt2-medium": "gpt2_medium",
        "openai-community/gpt2-large": "gpt2_large",
        "openai-community/gpt2-xl": "gpt2_xl",
    },
)
