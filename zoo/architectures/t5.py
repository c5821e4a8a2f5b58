"""T5 (Raffel, Shazeer, Roberts, Lee, Narang, Matena, Zhou, Li and Liu, 2019), and its version 1.1.

"Exploring the limits of transfer learning with a unified text-to-text transformer", section 2.1,
https://arxiv.org/abs/1910.10683. Version 1.1 is described beside the released weights:
https://github.com/google-research/text-to-text-transfer-transformer/blob/main/released_checkpoints.md

An encoder-decoder for which every task is text in, text out. Unlike the first transformer it normalises before each
sub-block, by the root mean square alone, has no bias anywhere, and knows positions only by a number that is added to
the attention scores: one per head and class of distances, the same in all blocks. Distances up to half the classes
have one each, longer ones share them by their logarithm, and all beyond `max_distance` the last; so texts may have
any length. Version 1.1 gates its MLP by a GELU (Shazeer, 2020, https://arxiv.org/abs/2002.05202), has a matrix of its
own for scores, and other widths.

Where the paper is silent, the released code decides: attention scores are not divided by sqrt(head_dim), the start
of the query weights being smaller by it; version 1.0 multiplies what it scores with the embedding's matrix by
1 / sqrt(dim); there is dropout on embeddings, attention weights, hidden units, sub-blocks, and behind the last norm.

Glossary (our word, meaning, the code's word):
    dim, mlp_dim     width of a token, and inside the MLP    d_model, d_ff
    head_dim         width of a head; heads x head_dim may differ from dim    d_kv
    depth            blocks of the encoder, and of the decoder    num_layers
    tokens           the target, shifted right               decoder_input_ids

source: (batch, source), tokens: (batch, seq), both int64 in [0, vocab_size); source_mask: (batch, source) bool, True
where there is a token. Output: logits of the next target token at every position, (batch, seq, vocab).
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.nn.checks import check_tokens
from zoo.nn.generate import KVCache
from zoo.nn.norm import RMSNorm
from zoo.nn.seq2seq import Memory, State, check_memories, generate, key_mask, stream
from zoo.registry import Architecture


@dataclass(frozen=True, kw_only=True)
class T5Config:
    """The size of a T5; the defaults are the base model of version 1.0."""

    vocab_size: int = 32_128
    """SentencePiece's 32,000 words and 100 sentinels, rounded up to a multiple of 128."""
    dim: int = 768
    depth: int = 12
    num_heads: int = 12
    head_dim: int = 64
    mlp_dim: int = 3072
    gated: bool = False
    """The MLP of version 1.1: a GELU, by its tanh approximation, times a linear layer, in place of a ReLU."""
    tie_embeddings: bool = True
    """Score tokens by the embedding's own matrix, scaled, as version 1.0 does; 1.1 has a `head`, and does not scale."""
    num_buckets: int = 32
    """Classes of distances; the encoder has half of them for each direction."""
    max_distance: int = 128
    """From here on all distances are one class."""
    dropout: float = 0.1
    norm_eps: float = 1e-6
    pad_token: int = 0
    """Fills up texts that are shorter than others; what it says is left out by masks, not by its number."""
    start_token: int = 0
    """What the decoder reads before the first token of the target: padding, which has no other use there."""
    stop_token: int = 1
    """Ends a text, and every source that T5 was trained on."""

    def __post_init__(self) -> None:
        """Refuse sizes that do not fit together."""
        for name in ("dim", "depth", "num_heads", "head_dim", "mlp_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is below 1")
        if self.num_buckets < 4 or self.num_buckets % 2:
            raise ValueError(f"num_buckets {self.num_buckets} must be even and at least 4, half for each direction")
        if self.max_distance <= self.num_buckets // 2:
            raise ValueError(
                f"max_distance {self.max_distance} must be above {self.num_buckets // 2}, half of num_buckets: "
                f"nearer distances have a bucket each"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout {self.dropout} is not in [0, 1)")
        if not self.norm_eps > 0:
            raise ValueError(f"norm_eps {self.norm_eps} is not positive")
        for name in ("pad_token", "start_token", "stop_token"):
            if not 0 <= getattr(self, name) < self.vocab_size:
                raise ValueError(f"{name} {getattr(self, name)} is not in [0, {self.vocab_size}), the vocabulary")


class RelativePosition(nn.Module):
    """What is added to the attention scores for where query and key stand to each other."""

    def __init__(self, config: T5Config, *, causal: bool) -> None:
        super().__init__()
        self.causal, self.max_distance = causal, config.max_distance
        self.embed = nn.Embedding(config.num_buckets, config.num_heads)

    def forward(self, start: int, end: int) -> Tensor:
        """For queries at positions start to end - 1 and keys at all before end: (1, heads, seq, end)."""
        position = torch.arange(end, device=self.embed.weight.device)
        ahead = position - position[start:, None]  # (seq, end), how far a key is ahead of a query
        bias = self.embed(self.buckets(ahead)).movedim(-1, 0)[None]
        return bias.masked_fill(ahead > 0, -torch.inf) if self.causal else bias

    def buckets(self, ahead: Tensor) -> Tensor:
        """The class of each distance; without a view ahead, all that is ahead is in the class of distance 0."""
        if self.causal:
            return self._grow(-ahead.clamp(max=0), self.embed.num_embeddings)
        half = self.embed.num_embeddings // 2
        return self._grow(ahead.abs(), half) + half * (ahead > 0)

    def _grow(self, distance: Tensor, count: int) -> Tensor:
        """Classes 0 to count - 1: the first half one distance wide, the others by a constant factor wider each."""
        exact = count // 2
        ratio = torch.log(distance.clamp(min=1).float() / exact) / math.log(self.max_distance / exact)
        wide = exact + (ratio * (count - exact)).long()
        return torch.where(distance < exact, distance, wide.clamp(max=count - 1))


class Attention(nn.Module):
    """Each position of a text takes from the positions of a text, its own or another, what it has an affinity to."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        inner = config.num_heads * config.head_dim
        self.num_heads, self.dropout = config.num_heads, nn.Dropout(config.dropout)
        self.query, self.key, self.value = (nn.Linear(config.dim, inner, bias=False) for _ in range(3))
        self.proj = nn.Linear(inner, config.dim, bias=False)

    def pairs(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The keys and values of what is looked at, (batch, heads, seq, head_dim) each."""
        return self._heads(self.key(x)), self._heads(self.value(x))

    def forward(self, x: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
        """`bias` is added to the scores, or where it is bool, leaves out what it denies."""
        dropout = self.dropout.p if self.training else 0.0
        query = self._heads(self.query(x))
        mixed = F.scaled_dot_product_attention(query, key, value, bias, dropout_p=dropout, scale=1.0)
        return self.dropout(self.proj(mixed.transpose(1, 2).flatten(2)))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class MLP(nn.Module):
    """Two layers; in version 1.1 a third one gates the hidden units."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.gate = nn.Linear(config.dim, config.mlp_dim, bias=False) if config.gated else None
        self.up = nn.Linear(config.dim, config.mlp_dim, bias=False)
        self.proj = nn.Linear(config.mlp_dim, config.dim, bias=False)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.relu(self.up(x)) if self.gate is None else F.gelu(self.gate(x), approximate="tanh") * self.up(x)
        return self.dropout(self.proj(self.dropout(hidden)))


class EncoderBlock(nn.Module):
    """Attention, then the MLP, each added to what it read through a norm."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.norm1, self.attn = RMSNorm(config.dim, config.norm_eps), Attention(config)
        self.norm2, self.mlp = RMSNorm(config.dim, config.norm_eps), MLP(config)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        normed = self.norm1(x)
        x = x + self.attn(normed, *self.attn.pairs(normed), bias)
        return x + self.mlp(self.norm2(x))


class DecoderBlock(nn.Module):
    """Attention to the text so far, then to the source, then the MLP."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.norm1, self.attn = RMSNorm(config.dim, config.norm_eps), Attention(config)
        self.norm2, self.cross = RMSNorm(config.dim, config.norm_eps), Attention(config)
        self.norm3, self.mlp = RMSNorm(config.dim, config.norm_eps), MLP(config)

    def remember(self, encoded: Tensor, length: int | None) -> Memory:
        key, value = self.cross.pairs(encoded)
        return Memory(key, value, None if length is None else KVCache(length))

    def forward(self, x: Tensor, bias: Tensor, memory: Memory, mask: Tensor | None) -> Tensor:
        normed = self.norm1(x)
        key, value = self.attn.pairs(normed)
        if memory.past is not None:
            key, value = memory.past.append(key, value)
        x = x + self.attn(normed, key, value, bias)
        x = x + self.cross(self.norm2(x), memory.key, memory.value, mask)
        return x + self.mlp(self.norm3(x))


class Encoder(nn.Module):
    """Reads the source."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.position = RelativePosition(config, causal=False)
        self.blocks = nn.ModuleList(EncoderBlock(config) for _ in range(config.depth))
        self.norm = RMSNorm(config.dim, config.norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        x, bias = self.dropout(x), self.position(0, x.shape[1])
        if mask is not None:
            bias = bias.masked_fill(~mask, -torch.inf)  # (batch, heads, source, source)
        for block in self.blocks:
            x = block(x, bias)
        return self.dropout(self.norm(x))


class Decoder(nn.Module):
    """Writes the target."""

    def __init__(self, config: T5Config) -> None:
        super().__init__()
        self.position = RelativePosition(config, causal=True)
        self.blocks = nn.ModuleList(DecoderBlock(config) for _ in range(config.depth))
        self.norm = RMSNorm(config.dim, config.norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def remember(self, encoded: Tensor, length: int | None = None) -> list[Memory]:
        """What each block keeps of the source, with room for a text of this length if it is written step by step."""
        return [
            block.remember(encoded, length)  # pyright: ignore[reportCallIssue] - each is a DecoderBlock
            for block in self.blocks
        ]

    def forward(self, x: Tensor, memories: list[Memory], mask: Tensor | None) -> Tensor:
        check_memories(memories, len(self.blocks), x.shape[0])
        cache = memories[0].past
        past = 0 if cache is None else cache.length
        x, bias = self.dropout(x), self.position(past, past + x.shape[1])
        for block, memory in zip(self.blocks, memories, strict=True):
            x = block(x, bias, memory, mask)
        return self.dropout(self.norm(x))


class T5(nn.Module):
    """The whole model; `generate` and `stream` write the text that belongs to a source."""

    generate = generate
    stream = stream

    def __init__(self, config: T5Config) -> None:
        """Build it; `init_weights` draws the weights."""
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocab_size, config.dim)
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.head = None if config.tie_embeddings else nn.Linear(config.dim, config.vocab_size, bias=False)

    @property
    def blocks(self) -> nn.ModuleList:
        """All blocks in the order in which they run, for what recomputes or shards them one by one."""
        return nn.ModuleList([*self.encoder.blocks, *self.decoder.blocks])

    def init_weights(self) -> None:
        """Draw all weights anew.

        Source: the released code. Every layer keeps the variance of what it reads, queries divide it by head_dim.
        """
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                fan = module.in_features * (self.config.head_dim if name.endswith(".query") else 1)
                nn.init.normal_(module.weight, std=fan**-0.5)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=1.0 if module is self.embed else self.config.dim**-0.5)
            elif isinstance(module, RMSNorm):
                nn.init.ones_(module.weight)

    def encode(self, source: Tensor, source_mask: Tensor | None = None) -> Tensor:
        """Read a source.

        Args:
            source: (batch, source) int64.
            source_mask: (batch, source) bool, True where there is a token, at least one in each row.

        Returns:
            (batch, source, dim); what stands where there is padding means nothing.

        Raises:
            ValueError: source or source_mask has another shape.
        """
        return self.encoder(self._embed(source), key_mask(source, source_mask))

    def forward(self, source: Tensor, tokens: Tensor, source_mask: Tensor | None = None) -> Tensor:
        """Score the next token of the target at every position.

        Args:
            source: (batch, source) int64.
            tokens: (batch, seq) int64: the start token, and the target without its last token.
            source_mask: (batch, source) bool, True where there is a token, at least one in each row.

        Returns:
            Logits, (batch, seq, vocab).

        Raises:
            ValueError: an argument has another shape, or there are not as many texts as sources.
        """
        memories = self.decoder.remember(self.encode(source, source_mask))
        return self._score(self.decoder(self._embed(tokens), memories, key_mask(source, source_mask)))

    def new_state(self, length: int, source: Tensor, source_mask: Tensor | None = None) -> State:
        """Read the source, for a text that is still empty.

        Args:
            length: how many tokens it will have at the most, the start token included.
            source: as in `forward`.
            source_mask: as in `forward`.
        """
        memories = self.decoder.remember(self.encode(source, source_mask), length)
        return State(memories, key_mask(source, source_mask))

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Read on, and score the token after the last one.

        Args:
            tokens: (batch, seq) int64, what follows the text that `state` has seen.
            state: from `new_state` or the previous step; it is extended in place, for which reason no gradient goes
                through a text that was read in several steps.

        Returns:
            Logits, (batch, vocab), and the state.

        Raises:
            ValueError: tokens has another shape, or the state is full or of another model or batch.
        """
        return self._score(self.decoder(self._embed(tokens), state.blocks, state.mask)[:, -1]), state

    def example_inputs(self, batch_size: int = 2) -> dict[str, Tensor]:
        """Random sources, (batch, 12), and targets, (batch, 10)."""
        device, vocab = self.embed.weight.device, self.config.vocab_size
        return {
            "source": torch.randint(vocab, (batch_size, 12), device=device),
            "tokens": torch.randint(vocab, (batch_size, 10), device=device),
        }

    def _embed(self, tokens: Tensor) -> Tensor:
        check_tokens(tokens, "a text")
        return self.embed(tokens)

    def _score(self, x: Tensor) -> Tensor:
        return F.linear(x * self.config.dim**-0.5, self.embed.weight) if self.head is None else self.head(x)


ARCHITECTURE = Architecture(
    name="t5",
    model=T5,
    config=T5Config,
    task="text2text-generation",
    paper="https://arxiv.org/abs/1910.10683",
    tiny=T5Config(
        vocab_size=32, dim=16, depth=2, num_heads=2, head_dim=4, mlp_dim=24, num_buckets=8, max_distance=9, dropout=0.0
    ),
    presets={
        "t5_small": T5Config(dim=512, depth=6, num_heads=8, mlp_dim=2048),
        "t5_base": T5Config(dim=768, depth=12, num_heads=12, mlp_dim=3072),
        "t5_large": T5Config(dim=1024, depth=24, num_heads=16, mlp_dim=4096),
        "t5_v1_1_small": T5Config(dim=512, depth=8, num_heads=6, mlp_dim=1024, gated=True, tie_embeddings=False),
        "t5_v1_1_base": T5Config(dim=768, depth=12, num_heads=12, mlp_dim=2048, gated=True, tie_embeddings=False),
        "t5_v1_1_large": T5Config(dim=1024, depth=24, num_heads=16, mlp_dim=2816, gated=True, tie_embeddings=False),
    },
    params={
        "t5": 222_903_552,
        "t5_small": 60_506_624,
        "t5_base": 222_903_552,
        "t5_large": 737_668_096,
        "t5_v1_1_small": 76_961_152,
        "t5_v1_1_base": 247_577_856,
        "t5_v1_1_large": 783_150_080,
    },
    aliases={
        "google-t5/t5-small": "t5_small",
        "google-t5/t5-base": "t5_base",
        "google-t5/t5-large": "t5_large",
        "google/t5-v1_1-small": "t5_v1_1_small",
        "google/t5-v1_1-base": "t5_v1_1_base",
        "google/t5-v1_1-large": "t5_v1_1_large",
        "google/flan-t5-small": "t5_v1_1_small",
        "google/flan-t5-base": "t5_v1_1_base",
        "google/flan-t5-large": "t5_v1_1_large",
    },
)
