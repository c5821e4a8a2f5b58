"""BERT (Devlin, Chang, Lee and Toutanova, 2018).

"BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding", section 3 and appendix A:
https://arxiv.org/abs/1810.04805

A transformer encoder in which every position sees all others. It learns by filling in words that were hidden
(section 3.1, task 1); a head for another task then stands on the same encoder (section 3.2). Next-sentence
prediction, the paper's task 2, is left out. Where the paper is silent, the released code decides: the norms follow
the sums, as in the original transformer, with an epsilon of 1e-12; GELU is exact; the head for hidden words is a
layer with GELU and norm, then the token embedding's own matrix and a bias per word; the pooler is a layer with tanh
on the first token. That code draws weights from a normal distribution with a deviation of .02, cut off at twice
that; here it is not cut off.

Presets: the paper's base and large; the compact models of Turc et al. (2019), https://arxiv.org/abs/1908.08962;
and MiniLM's sizes (Wang et al., 2020), https://arxiv.org/abs/2002.10957, usual for sentence embeddings.

Glossary: `dim` is the paper's H, `depth` its L, `num_heads` its A; `segment` its sentence A or B; `first token`
its [CLS].

tokens: (batch, seq) int64 in [0, vocab_size), seq at most max_seq_len. mask: (batch, seq) bool, True where there is
a token to attend to, False for padding. segments: (batch, seq) int64 in [0, num_segments), all 0 if left out.
Output: scores of the word at every position, (batch, seq, vocab); with `num_classes` scores of the whole text,
(batch, num_classes).
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.nn.checks import check_tokens
from zoo.registry import Architecture

INIT_STD = 0.02
"""Of every matrix, as in the released code."""


@dataclass(frozen=True, kw_only=True)
class BertConfig:
    """The size of a BERT and what it answers; the defaults are BERT base, uncased, which fills in words."""

    vocab_size: int = 30522
    """WordPieces; the cased English models have 28996."""
    max_seq_len: int = 512
    num_segments: int = 2
    """Kinds of `segments`: the first text and the second."""
    dim: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_dim: int = 3072
    dropout: float = 0.1
    """On the embeddings, on each sub-block's output, and before a classifier."""
    attn_dropout: float = 0.1
    """On the attention weights."""
    norm_eps: float = 1e-12
    head: Literal["masked_lm", "pooler", "none"] = "masked_lm"
    """What reads the encoder where there is no `num_classes`. `masked_lm` scores the vocabulary at every position;
    `pooler` gives the first token after its layer, (batch, dim); `none` the hidden states, (batch, seq, dim)."""
    num_classes: int | None = None
    """Where given, the head is the pooler and a classifier on it, whatever `head` says."""

    def __post_init__(self) -> None:
        """Refuse sizes that do not fit together."""
        for name in ("vocab_size", "max_seq_len", "num_segments", "dim", "depth", "num_heads", "mlp_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is below 1")
        if self.num_classes is not None and self.num_classes < 1:
            raise ValueError(f"num_classes {self.num_classes} is below 1; head='pooler' leaves the classifier out")
        if self.dim % self.num_heads:
            raise ValueError(f"dim {self.dim} is not divisible by num_heads {self.num_heads}")
        for name in ("dropout", "attn_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is not in [0, 1)")
        if not self.norm_eps > 0:
            raise ValueError(f"norm_eps {self.norm_eps} is not positive")


class Embed(nn.Module):
    """The sum of what a token is, where it stands, and to which segment it belongs (figure 2)."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.token = nn.Embedding(config.vocab_size, config.dim)
        self.position = nn.Embedding(config.max_seq_len, config.dim)
        self.segment = nn.Embedding(config.num_segments, config.dim)
        self.norm = nn.LayerNorm(config.dim, eps=config.norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, tokens: Tensor, segments: Tensor | None) -> Tensor:
        segment = self.segment.weight[0] if segments is None else self.segment(segments)
        position = self.position.weight[: tokens.shape[1]]
        return self.dropout(self.norm(self.token(tokens) + segment + position))


class Attention(nn.Module):
    """Each position looks at all that the mask leaves."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.qkv = nn.Linear(config.dim, 3 * config.dim)
        self.proj = nn.Linear(config.dim, config.dim)
        self.dropout = config.attn_dropout

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, -1))
        query, key, value = qkv.transpose(1, 3).unbind(2)  # each (batch, heads, seq, head_dim)
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, mask, dropout_p=dropout)
        return self.proj(mixed.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """Two layers with a GELU between."""

    def __init__(self, dim: int, mlp_dim: int) -> None:
        super().__init__()
        self.up = nn.Linear(dim, mlp_dim)
        self.proj = nn.Linear(mlp_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(F.gelu(self.up(x)))


class Block(nn.Module):
    """Attention, then the MLP, each added to what it read and then normed."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.attn = Attention(config)
        self.norm1 = nn.LayerNorm(config.dim, eps=config.norm_eps)
        self.mlp = MLP(config.dim, config.mlp_dim)
        self.norm2 = nn.LayerNorm(config.dim, eps=config.norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        x = self.norm1(x + self.dropout(self.attn(x, mask)))
        return self.norm2(x + self.dropout(self.mlp(x)))


class MaskedLMHead(nn.Module):
    """Which word stands at each position: a layer, then the token embedding's matrix and a bias per word."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.proj = nn.Linear(config.dim, config.dim)
        self.norm = nn.LayerNorm(config.dim, eps=config.norm_eps)
        self.bias = nn.Parameter(torch.empty(config.vocab_size))

    def forward(self, x: Tensor, words: Tensor) -> Tensor:
        return F.linear(self.norm(F.gelu(self.proj(x))), words, self.bias)


class Pooler(nn.Module):
    """The first token, through a layer of its own."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.proj(x[:, 0]))


class Classifier(nn.Module):
    """Which class the whole text is of."""

    def __init__(self, dim: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.pooler = Pooler(dim)
        self.dropout = nn.Dropout(dropout)
        self.proj = nn.Linear(dim, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(self.dropout(self.pooler(x)))


class Bert(nn.Module):
    """The encoder and one head; `encode` gives what any head reads."""

    def __init__(self, config: BertConfig) -> None:
        """Build it; `init_weights` draws the weights."""
        super().__init__()
        self.config = config
        self.embed = Embed(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.head = self._new_head()

    def init_weights(self) -> None:
        """Draw all weights anew."""
        _draw(self)

    def reset_classifier(self, num_classes: int) -> None:
        """Put a freshly drawn classifier in place of the head; a pooler that is there stays."""
        old, like = self.head, self.embed.token.weight
        self.config = replace(self.config, num_classes=num_classes)
        head = Classifier(self.config.dim, num_classes, self.config.dropout).to(like.device, like.dtype)
        _draw(head)
        if isinstance(old, Classifier | Pooler):
            head.pooler = old.pooler if isinstance(old, Classifier) else old
        self.head = head.train(self.training)

    def encode(self, tokens: Tensor, mask: Tensor | None = None, segments: Tensor | None = None) -> Tensor:
        """Read a text: what the encoder knows at every position.

        Args:
            tokens: (batch, seq) int64.
            mask: (batch, seq) bool, False for padding, which no position then sees; None attends to everything.
            segments: (batch, seq) int64, the text that each token belongs to; None means the first.

        Returns:
            Hidden states, (batch, seq, dim); those of padding mean nothing.

        Raises:
            ValueError: tokens is something else or has no position, the shapes do not agree, the mask is not bool, or
                there are more tokens than positions.
        """
        self._check(tokens, mask, segments)
        x = self.embed(tokens, segments)
        visible = None if mask is None else mask[:, None, None, :]  # the same for all heads and queries
        for block in self.blocks:
            x = block(x, visible)
        return x

    def forward(self, tokens: Tensor, mask: Tensor | None = None, segments: Tensor | None = None) -> Tensor:
        """Answer; arguments and errors as for `encode`.

        Returns:
            Logits: of each position's word, (batch, seq, vocab), or with `num_classes` of the text, (batch,
            num_classes). With head `pooler` (batch, dim) and with `none` (batch, seq, dim), as the config says.
        """
        x = self.encode(tokens, mask, segments)
        return self.head(x, self.embed.token.weight) if isinstance(self.head, MaskedLMHead) else self.head(x)

    def example_inputs(self, batch_size: int = 2) -> dict[str, Tensor]:
        """Random tokens, (batch, max_seq_len), and their mask, in which the first of every two rows is half padding."""
        shape, device = (batch_size, self.config.max_seq_len), self.embed.token.weight.device
        rows, positions = torch.arange(shape[0], device=device), torch.arange(shape[1], device=device)
        lengths = torch.where(rows % 2 == 0, (shape[1] + 1) // 2, shape[1])
        tokens = torch.randint(self.config.vocab_size, shape, device=device)
        return {"tokens": tokens, "mask": positions < lengths[:, None]}

    def _new_head(self) -> nn.Module:
        config = self.config
        if config.num_classes is not None:
            return Classifier(config.dim, config.num_classes, config.dropout)
        if config.head == "masked_lm":
            return MaskedLMHead(config)
        return Pooler(config.dim) if config.head == "pooler" else nn.Identity()

    def _check(self, tokens: Tensor, mask: Tensor | None, segments: Tensor | None) -> None:
        check_tokens(tokens)
        for name, value in (("mask", mask), ("segments", segments)):
            if value is not None and value.shape != tokens.shape:
                raise ValueError(
                    f"{name} has shape {tuple(value.shape)}, but the tokens {tuple(tokens.shape)}; give one for each"
                )
        if mask is not None and mask.dtype != torch.bool:
            raise ValueError(f"mask is {mask.dtype}, not bool; mask.bool() attends to its ones and not to its zeros")
        if tokens.shape[1] > self.config.max_seq_len:
            raise ValueError(
                f"{tokens.shape[1]} tokens are more than max_seq_len {self.config.max_seq_len}; cut the text, or "
                f"split it into several"
            )


def _draw(module: nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Embedding):
            nn.init.normal_(layer.weight, std=INIT_STD)
        elif isinstance(layer, nn.LayerNorm):
            nn.init.ones_(layer.weight)
        if isinstance(layer, nn.Linear | nn.LayerNorm | MaskedLMHead):
            nn.init.zeros_(layer.bias)


ARCHITECTURE = Architecture(
    name="bert",
    model=Bert,
    config=BertConfig,
    task="fill-mask",
    paper="https://arxiv.org/abs/1810.04805",
    tiny=BertConfig(
        vocab_size=64, max_seq_len=16, dim=16, depth=2, num_heads=2, mlp_dim=32, dropout=0.0, attn_dropout=0.0
    ),
    presets={
        "bert_tiny": BertConfig(dim=128, depth=2, num_heads=2, mlp_dim=512),
        "bert_mini": BertConfig(dim=256, depth=4, num_heads=4, mlp_dim=1024),
        "bert_small": BertConfig(dim=512, depth=4, num_heads=8, mlp_dim=2048),
        "bert_medium": BertConfig(dim=512, depth=8, num_heads=8, mlp_dim=2048),
        "bert_base": BertConfig(dim=768, depth=12, num_heads=12, mlp_dim=3072),
        "bert_base_cased": BertConfig(vocab_size=28996, dim=768, depth=12, num_heads=12, mlp_dim=3072),
        "bert_large": BertConfig(dim=1024, depth=24, num_heads=16, mlp_dim=4096),
        "minilm_l6": BertConfig(dim=384, depth=6, num_heads=12, mlp_dim=1536),
        "minilm_l12": BertConfig(dim=384, depth=12, num_heads=12, mlp_dim=1536),
    },
    params={  # with the head for hidden words, whose matrix is the embedding's
        "bert": 109_514_298,
        "bert_tiny": 4_416_698,
        "bert_mini": 11_201_594,
        "bert_small": 28_795_194,
        "bert_medium": 41_404_730,
        "bert_base": 109_514_298,
        "bert_base_cased": 108_340_804,
        "bert_large": 335_174_458,
        "minilm_l6": 22_744_506,
        "minilm_l12": 33_391_290,
    },
    aliases={
        "google/bert_uncased_L-2_H-128_A-2": "bert_tiny",
        "google/bert_uncased_L-4_H-256_A-4": "bert_mini",
        "google/bert_uncased_L-4_H-512_A-8": "bert_small",
        "google/bert_uncased_L-8_H-512_A-8": "bert_medium",
        "bert-base-uncased": "bert_base",
        "google-bert/bert-base-uncased": "bert_base",
        "google-bert/bert-base-cased": "bert_base_cased",
        "bert-large-uncased": "bert_large",
        "google-bert/bert-large-uncased": "bert_large",
        "nreimers/MiniLM-L6-H384-uncased": "minilm_l6",
        "microsoft/MiniLM-L12-H384-uncased": "minilm_l12",
        "sentence-transformers/all-MiniLM-L6-v2": "minilm_l6",
        "sentence-transformers/all-MiniLM-L12-v2": "minilm_l12",
    },
)
