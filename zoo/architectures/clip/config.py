"""The shape of a CLIP: two towers, each with fields of its own, and the space in which they meet."""

import math
from dataclasses import dataclass
from typing import Literal

COUNTS = (
    "image_size", "patch_size", "in_channels", "vision_dim", "vision_depth", "vision_num_heads", "vision_mlp_dim",
    "vision_width", "text_dim", "text_depth", "text_num_heads", "text_mlp_dim", "vocab_size", "max_seq_len", "dim",
)  # fmt: skip
"""The fields that count something."""
REDUCTION = 32
"""A ResNet's last map has an image's sides divided by this, and this many times the channels of its stem."""


@dataclass(frozen=True, kw_only=True)
class CLIPConfig:
    """Two towers and their common space; by default ViT-B/32."""

    vision: Literal["vit", "resnet", "text"] = "vit"
    """What reads the first of a pair; `text` is a second tower for texts, with `vision_dim` and so on as its sizes, and
    the model's `image` is then tokens."""
    image_size: int = 224
    """Height and width for which there are position embeddings of its own."""
    patch_size: int = 32
    """Of the ViT alone."""
    in_channels: int = 3
    vision_dim: int = 768
    """Width of the ViT; a ResNet's is 32 `vision_width`."""
    vision_depth: int = 12
    vision_num_heads: int = 12
    """In the ViT's blocks, and in the attention that ends a ResNet."""
    vision_mlp_dim: int = 3072
    vision_depths: tuple[int, ...] = (3, 4, 6, 3)
    """Blocks in each stage of the ResNet."""
    vision_width: int = 64
    """Channels of the ResNet's stem."""
    text_dim: int = 512
    text_depth: int = 12
    text_num_heads: int = 8
    text_mlp_dim: int = 2048
    shared_towers: bool = False
    """Whether one tower reads both texts of a pair, where `vision` is `text`."""
    vocab_size: int = 49408
    max_seq_len: int = 77
    end_token: int | None = None
    """Which token ends a text, where it is read: at the first one, or at its last token where it has none. None reads
    it at its largest token, as the original does, whose end is the last word of the vocabulary."""
    dim: int = 512
    """Width of the common space."""
    activation: Literal["quick_gelu", "gelu"] = "quick_gelu"
    """`quick_gelu` is x * sigmoid(1.702 x), of OpenAI's weights; those that LAION and others trained have `gelu`."""
    norm_eps: float = 1e-5
    dropout: float = 0.0
    """On what each branch of a transformer's block adds."""
    drop_path: float = 0.0
    """The rate at the last block of a transformer; it rises linearly from 0 at the first."""
    temperature: float = 0.07
    """By which logits are divided at first; the model learns it."""
    logit_bias: float | None = None
    """The initial value of a learnt number that is added to all logits (SigLIP); None leaves it out."""

    @property
    def grid(self) -> int:
        """Patches, or a ResNet's last positions, along a side."""
        return self.image_size // (REDUCTION if self.vision == "resnet" else self.patch_size)

    @property
    def vision_features(self) -> int:
        """What the first tower's head reads."""
        return self.vision_width * REDUCTION if self.vision == "resnet" else self.vision_dim

    def __post_init__(self) -> None:
        """Refuse shapes that do not divide, and empty layers."""
        for name in COUNTS:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is below 1")
        if len(self.vision_depths) != 4 or min(self.vision_depths) < 1:
            raise ValueError(f"vision_depths {self.vision_depths} are not four numbers of blocks, each at least 1")
        for name in ("norm_eps", "temperature"):
            if not (getattr(self, name) > 0 and math.isfinite(getattr(self, name))):
                raise ValueError(f"{name} {getattr(self, name)} is not positive")
        for name in ("dropout", "drop_path"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is not in [0, 1)")
        if self.logit_bias is not None and not math.isfinite(self.logit_bias):
            raise ValueError(f"logit_bias {self.logit_bias} is not finite")
        if self.end_token is not None and not 0 <= self.end_token < self.vocab_size:
            raise ValueError(f"end_token {self.end_token} is not among the {self.vocab_size} tokens of vocab_size")
        self._check_towers()

    def _check_towers(self) -> None:
        for name, width in (("vision", self.vision_features), ("text", self.text_dim)):
            heads = getattr(self, f"{name}_num_heads")
            if width % heads:
                raise ValueError(f"{name}: a width of {width} is not divisible by {name}_num_heads {heads}")
        if self.vision == "vit" and self.image_size % self.patch_size:
            raise ValueError(f"image_size {self.image_size} is not divisible by patch_size {self.patch_size}")
        if self.vision == "resnet" and (self.image_size % REDUCTION or self.vision_width % 2):
            raise ValueError(
                f"image_size {self.image_size} is not a multiple of {REDUCTION}, or vision_width {self.vision_width} "
                "is odd; a ResNet's last map has a 32nd of the sides, and its stem begins with half its width"
            )
        if self.shared_towers:
            self._check_shared()

    def _check_shared(self) -> None:
        if self.vision != "text":
            raise ValueError(f"shared_towers needs vision='text', got {self.vision!r}; images and texts share no tower")
        for name in ("dim", "depth", "num_heads", "mlp_dim"):
            first, second = getattr(self, f"vision_{name}"), getattr(self, f"text_{name}")
            if first != second:
                raise ValueError(
                    f"vision_{name} {first} is not text_{name} {second}, and shared_towers has one for both"
                )
