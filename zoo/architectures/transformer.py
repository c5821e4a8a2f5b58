"""Transformer (Vaswani, Shazeer, Parmar, Uszkoreit, Jones, Gomez, Kaiser and Polosukhin, 2017).

"Attention is all you need", https://arxiv.org/abs/1706.03762: figure 1, section 3, and the base and big models of
table 3.

An encoder reads the source at once; a decoder writes the target token by token, looking at what it wrote and at
the encoded source. One matrix embeds both texts and scores the next token. Label smoothing belongs to the
objective, beam search to `generate`.

Where the paper leaves a choice:
- attention has no biases, as in its equations; the MLP has, as in equation 2;
- weights start as Glorot's uniform ones, embeddings with a deviation of 1 / sqrt(dim), so that they have 1 after
  the scaling of section 3.4, and eps is 1e-6: the authors' released code;
- dropout acts where section 5.4 says, on the sums of embeddings and positions and on what each sub-layer adds; the
  code also drops attention weights and hidden units.
With the vocabulary of 37000 of section 5.1 the base model has 63.1 million parameters and the big one 214.2; table 3
says 65 and 213.

Glossary (our word, meaning, the paper's symbol):
    dim          width of every token                        d_model
    depth        blocks of the encoder, and of the decoder   N
    mlp_dim      hidden width of a block's MLP               d_ff
    num_heads    parallel attentions                         h
    tokens       the target, shifted right                   "outputs (shifted right)"

source: (batch, source), tokens: (batch, seq), both int64 in [0, vocab_size) and of any length, for the positions are
computed and not learnt; source_mask: (batch, source) bool, True where there is a token. Padding goes behind the text.
Output: logits of the next target token at every position, (batch, seq, vocab).
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.nn.checks import check_tokens
from zoo.nn.generate import KVCache
from zoo.nn.seq2seq import Memory, State, check_memories, generate, key_mask, stream
from zoo.registry import Architecture

LONGEST_WAVE = 10_000
"""Of the positions' sinusoids, in multiples of 2 pi tokens; section 3.5."""


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """The size of a transformer; the defaults are the base model for English and German."""

    vocab_size: int = 37_000
    """Byte pairs of both languages."""
    dim: int = 512
    depth: int = 6
    num_heads: int = 8
    mlp_dim: int = 2048
    dropout: float = 0.1
    norm_eps: float = 1e-6
    pad_token: int = 0
    """Fills up texts that are shorter than others; what it says is left out by masks, not by its number."""
    start_token: int = 1
    """What the decoder reads before the first token of the target."""
    stop_token: int = 2
    """Ends a text."""

    def __post_init__(self) -> None:
        """Refuse sizes that do not fit together."""
        for name in ("dim", "depth", "num_heads", "mlp_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is below 1")
        if self.dim % self.num_heads:
            raise ValueError(f"dim {self.dim} is not divisible by num_heads {self.num_heads}")
        if self.dim % 2:
            raise ValueError(f"dim {self.dim} is odd, and positions are pairs of a sine and a cosine")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout {self.dropout} is not in [0, 1)")
        if not self.norm_eps > 0:
            raise ValueError(f"norm_eps {self.norm_eps} is not positive")
        for name in ("pad_token", "start_token", "stop_token"):
            if not 0 <= getattr(self, name) < self.vocab_size:
                raise ValueError(f"{name} {getattr(self, name)} is not in [0, {self.vocab_size}), the vocabulary")


def sinusoids(start: int, end: int, dim: int, device: torch.device) -> Tensor:
    """What is added to the embeddings at positions start to end - 1, (seq, dim): section 3.5, in float32."""
    position = torch.arange(start, end, dtype=torch.float32, device=device)
    pair = torch.arange(0, dim, 2, dtype=torch.float32, device=device)
    angle = position[:, None] * torch.exp(pair * (-math.log(LONGEST_WAVE) / dim))  # (seq, dim / 2)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)


class Attention(nn.Module):
    """Each position of a text takes from the positions of a text, its own or another, what it has an affinity to."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query, self.key, self.value, self.proj = (nn.Linear(dim, dim, bias=False) for _ in range(4))

    def pairs(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The keys and values of what is looked at, (batch, heads, seq, head_dim) each."""
        return self._heads(self.key(x)), self._heads(self.value(x))

    def forward(
        self, x: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, causal: bool = False
    ) -> Tensor:
        mixed = F.scaled_dot_product_attention(self._heads(self.query(x)), key, value, mask, is_causal=causal)
        return self.proj(mixed.transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class MLP(nn.Module):
    """Equation 2."""

    def __init__(self, dim: int, mlp_dim: int) -> None:
        super().__init__()
        self.up = nn.Linear(dim, mlp_dim)
        self.proj = nn.Linear(mlp_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(F.relu(self.up(x)))


class EncoderBlock(nn.Module):
    """Attention, then the MLP; what each adds is normalised together with what it was added to."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.attn = Attention(config.dim, config.num_heads)
        self.norm1 = nn.LayerNorm(config.dim, eps=config.norm_eps)
        self.mlp = MLP(config.dim, config.mlp_dim)
        self.norm2 = nn.LayerNorm(config.dim, eps=config.norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        x = self.norm1(x + self.dropout(self.attn(x, *self.attn.pairs(x), mask)))
        return self.norm2(x + self.dropout(self.mlp(x)))


class DecoderBlock(nn.Module):
    """Attention to the text so far, then to the source, then the MLP."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.attn = Attention(config.dim, config.num_heads)
        self.norm1 = nn.LayerNorm(config.dim, eps=config.norm_eps)
        self.cross = Attention(config.dim, config.num_heads)
        self.norm2 = nn.LayerNorm(config.dim, eps=config.norm_eps)
        self.mlp = MLP(config.dim, config.mlp_dim)
        self.norm3 = nn.LayerNorm(config.dim, eps=config.norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def remember(self, encoded: Tensor, length: int | None) -> Memory:
        key, value = self.cross.pairs(encoded)
        return Memory(key, value, None if length is None else KVCache(length))

    def forward(self, x: Tensor, memory: Memory, mask: Tensor | None) -> Tensor:
        x = self.norm1(x + self.dropout(self._look_back(x, memory.past)))
        x = self.norm2(x + self.dropout(self.cross(x, memory.key, memory.value, mask)))
        return self.norm3(x + self.dropout(self.mlp(x)))

    def _look_back(self, x: Tensor, cache: KVCache | None) -> Tensor:
        key, value = self.attn.pairs(x)
        past, mask = 0, None
        if cache is not None:
            past = cache.length
            key, value = cache.append(key, value)
            if past and x.shape[1] > 1:  # a single token sees everything, and a text from its start is causal
                mask = x.new_ones(x.shape[1], cache.length, dtype=torch.bool).tril(past)
        return self.attn(x, key, value, mask, causal=past == 0)


class Encoder(nn.Module):
    """The left half of figure 1, above the embeddings."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(EncoderBlock(config) for _ in range(config.depth))

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        for block in self.blocks:
            x = block(x, mask)
        return x


class Decoder(nn.Module):
    """The right half, below the scores."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(DecoderBlock(config) for _ in range(config.depth))

    def remember(self, encoded: Tensor, length: int | None = None) -> list[Memory]:
        """What each block keeps of the source, with room for a text of this length if it is written step by step."""
        return [
            block.remember(encoded, length)  # pyright: ignore[reportCallIssue] - each is a DecoderBlock
            for block in self.blocks
        ]

    def forward(self, x: Tensor, memories: list[Memory], mask: Tensor | None) -> Tensor:
        check_memories(memories, len(self.blocks), x.shape[0])
        for block, memory in zip(self.blocks, memories, strict=True):
            x = block(x, memory, mask)
        return x


class Transformer(nn.Module):
    """The whole model; `generate` and `stream` write the text that belongs to a source."""

    generate = generate
    stream = stream

    def __init__(self, config: TransformerConfig) -> None:
        """Build it; `init_weights` draws the weights."""
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocab_size, config.dim)
        self.dropout = nn.Dropout(config.dropout)
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    @property
    def blocks(self) -> nn.ModuleList:
        """All blocks in the order in which they run, for what recomputes or shards them one by one."""
        return nn.ModuleList([*self.encoder.blocks, *self.decoder.blocks])

    def init_weights(self) -> None:
        """Draw all weights anew."""
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=self.config.dim**-0.5)
            elif isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
            elif isinstance(module, nn.LayerNorm):
                nn.init.ones_(module.weight)
            if isinstance(module, nn.Linear | nn.LayerNorm) and module.bias is not None:
                nn.init.zeros_(module.bias)

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
        past = state.blocks[0].past
        x = self.decoder(self._embed(tokens, 0 if past is None else past.length), state.blocks, state.mask)
        return self._score(x[:, -1]), state

    def example_inputs(self, batch_size: int = 2) -> dict[str, Tensor]:
        """Random sources, (batch, 12), and targets, (batch, 10)."""
        device, vocab = self.embed.weight.device, self.config.vocab_size
        return {
            "source": torch.randint(vocab, (batch_size, 12), device=device),
            "tokens": torch.randint(vocab, (batch_size, 10), device=device),
        }

    def _embed(self, tokens: Tensor, past: int = 0) -> Tensor:
        check_tokens(tokens, "a text")
        x = self.embed(tokens) * math.sqrt(self.config.dim)
        position = sinusoids(past, past + tokens.shape[1], self.config.dim, x.device)
        return self.dropout(x + position.to(x.dtype))

    def _score(self, x: Tensor) -> Tensor:
        return F.linear(x, self.embed.weight)


ARCHITECTURE = Architecture(
    name="transformer",
    model=Transformer,
    config=TransformerConfig,
    task="text2text-generation",
    paper="https://arxiv.org/abs/1706.03762",
    tiny=TransformerConfig(vocab_size=32, dim=16, depth=2, num_heads=2, mlp_dim=24, dropout=0.0),
    presets={
        "transformer_base": TransformerConfig(dim=512, depth=6, num_heads=8, mlp_dim=2048, dropout=0.1),
        "transformer_big": TransformerConfig(dim=1024, depth=6, num_heads=16, mlp_dim=4096, dropout=0.3),
    },
    params={"transformer": 63_045_632, "transformer_base": 63_045_632, "transformer_big": 214_171_648},
    aliases={},
)
