"""CLIP (Radford et al., 2021), https://arxiv.org/abs/2103.00020: figure 3, section 2.4, tables 19 and 20.

Two towers, one for images and one for texts, map what they read to the same space, in which the two of a pair lie
close together. The first is a ViT with one more norm before its blocks (`transformer.py`), or a ResNet that ends in
attention (`resnet.py`); the second is a causal transformer that reads a text at its end (`transformer.py`).

Beyond the paper: `vision="text"` reads pairs of texts, with one tower for both where `shared_towers` says so;
`logit_bias` is the learnt number of SigLIP (Zhai et al., 2023), https://arxiv.org/abs/2303.15343, section 3.2; images
of another size than `image_size` get interpolated positions.

The paper clips the scale of the logits at 100 "to prevent training instability". `forward` applies the scale as it
is, as the released code does; `constrain` is what clips the parameter, and the trainer calls it after every step.

Glossary (our word, meaning, the paper's symbol in figure 3):
    vision, text           the two towers                          image_encoder, text_encoder
    vision.head, text.head what leads to the common space          W_i, W_t
    dim                    width of the common space               d_e
    image_features         where images lie, of length 1           I_e
    text_features          where texts lie, of length 1            T_e
    logit_scale            logarithm of what cosines are scaled by t

Input: image (batch, in_channels, height, width), float, normalised per channel, or with `vision="text"` tokens;
tokens (texts, seq) int64 in [0, vocab_size), seq at most max_seq_len. There may be more or fewer texts than images.
Output: CLIPOutput.
"""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.architectures.clip.config import CLIPConfig
from zoo.architectures.clip.resnet import ImageResNet
from zoo.architectures.clip.transformer import ImageTransformer, TextTransformer
from zoo.nn.patches import resample
from zoo.registry import Architecture

MAX_LOGIT_SCALE = math.log(100)
"""Section 2.5."""


class CLIPOutput(NamedTuple):
    """How well each image goes with each text, and where both lie."""

    logits_per_image: Tensor
    """(images, texts): cosines, scaled."""
    logits_per_text: Tensor
    """(texts, images)."""
    image_features: Tensor
    """(images, dim), of length 1."""
    text_features: Tensor
    """(texts, dim), of length 1."""


class CLIP(nn.Module):
    """Two towers that meet in one space."""

    towers = ("vision", "text")
    """Submodules that stand side by side, each with blocks or stages of its own."""
    no_weight_decay = ("*.class_token", "*.positions", "logit_scale", "logit_bias")

    def __init__(self, config: CLIPConfig) -> None:
        """Build from a config."""
        super().__init__()
        self.config = config
        self.vision = _first_tower(config)
        self.text = None if config.shared_towers else TextTransformer(config)
        self.logit_scale = nn.Parameter(torch.empty(1))
        self.logit_bias = None if config.logit_bias is None else nn.Parameter(torch.empty(1))

    def encode_image(self, image: Tensor) -> Tensor:
        """Where images lie.

        Args:
            image: (batch, in_channels, height, width), or with `vision="text"` tokens (batch, seq).

        Returns:
            (batch, dim), each of length 1.

        Raises:
            TypeError: the image is no tensor.
            ValueError: it has another shape or dtype than the tower reads.
        """
        return F.normalize(self.vision(image), dim=-1)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Where texts lie.

        Args:
            tokens: (batch, seq) int64, each text with its end; what stands behind the end is not read.

        Returns:
            (batch, dim), each of length 1.

        Raises:
            ValueError: tokens is something else, or has no position or more than the model.
        """
        return F.normalize((self.text or self.vision)(tokens), dim=-1)

    def forward(self, image: Tensor, tokens: Tensor) -> CLIPOutput:
        """Score every text for every image; arguments and errors are those of `encode_image` and `encode_text`."""
        images, texts = self.encode_image(image), self.encode_text(tokens)
        logits = self.logit_scale.exp() * images @ texts.mT
        if self.logit_bias is not None:
            logits = logits + self.logit_bias
        return CLIPOutput(logits, logits.mT, images, texts)

    def constrain(self) -> None:
        """Keep the scale at 100 or below."""
        with torch.no_grad():
            self.logit_scale.clamp_(max=MAX_LOGIT_SCALE)

    def resample_positions(self, positions: Tensor) -> Tensor:
        """Stored position embeddings of images, (1, 1 + positions, dim), for the grid of this config."""
        return resample(positions, (self.config.grid, self.config.grid))

    def init_weights(self) -> None:
        """Draw all weights anew; each tower says how."""
        self.vision.init_weights()
        if self.text is not None:
            self.text.init_weights()
        nn.init.constant_(self.logit_scale, -math.log(self.config.temperature))
        if self.logit_bias is not None:
            nn.init.constant_(self.logit_bias, self.config.logit_bias or 0)

    def example_inputs(self, batch_size: int = 2) -> dict[str, Tensor]:
        """Noise, or texts in its place, and random texts of all lengths, each with its end."""
        config = self.config
        shape = (batch_size, config.in_channels, config.image_size, config.image_size)
        image = self._example_text(batch_size) if config.vision == "text" else torch.randn(shape)
        return {"image": image, "tokens": self._example_text(batch_size)}

    def _example_text(self, batch_size: int) -> Tensor:
        config = self.config
        end = config.vocab_size - 1 if config.end_token is None else config.end_token
        tokens = torch.randint(max(1, config.vocab_size - 1), (batch_size, config.max_seq_len))
        last = torch.randint(config.max_seq_len, (batch_size, 1))
        where = torch.arange(config.max_seq_len)
        return torch.where(where < last, tokens, torch.where(where == last, end, 0))


def _first_tower(config: CLIPConfig) -> Any:
    if config.vision == "text":
        return TextTransformer(config, "vision")
    return ImageTransformer(config) if config.vision == "vit" else ImageResNet(config)


LARGE: dict[str, Any] = {
    "patch_size": 14, "vision_dim": 1024, "vision_depth": 24, "vision_num_heads": 16, "vision_mlp_dim": 4096,
    "text_dim": 768, "text_num_heads": 12, "text_mlp_dim": 3072, "dim": 768,
}  # fmt: skip
RESNET: dict[str, Any] = {"vision": "resnet", "vision_num_heads": 32}

ARCHITECTURE = Architecture(
    name="clip",
    model=CLIP,
    config=CLIPConfig,
    task="zero-shot-image-classification",
    paper="https://arxiv.org/abs/2103.00020",
    tiny=CLIPConfig(
        image_size=16,
        patch_size=4,
        vision_dim=16,
        vision_depth=2,
        vision_num_heads=2,
        vision_mlp_dim=24,
        text_dim=12,
        text_depth=2,
        text_num_heads=3,
        text_mlp_dim=20,
        vocab_size=64,
        max_seq_len=10,
        dim=8,
    ),
    presets={
        "clip_vit_b_32": CLIPConfig(),
        "clip_vit_b_16": CLIPConfig(patch_size=16),
        "clip_vit_l_14": CLIPConfig(**LARGE),
        "clip_vit_l_14_336": CLIPConfig(**LARGE, image_size=336),
        "clip_resnet50": CLIPConfig(**RESNET, dim=1024),
        "clip_resnet101": CLIPConfig(**RESNET, vision_depths=(3, 4, 23, 3)),
    },
    params={
        "clip": 151_277_313,
        "clip_vit_b_32": 151_277_313,
        "clip_vit_b_16": 149_620_737,
        "clip_vit_l_14": 427_616_513,
        "clip_vit_l_14_336": 427_944_193,
        "clip_resnet50": 102_007_137,
        "clip_resnet101": 119_688_033,
    },
    aliases={
        "RN50": "clip_resnet50",
        "RN101": "clip_resnet101",
        "ViT-B-32-quickgelu": "clip_vit_b_32",
        "ViT-B-16-quickgelu": "clip_vit_b_16",
        "ViT-L-14-quickgelu": "clip_vit_l_14",
        "ViT-L-14-336-quickgelu": "clip_vit_l_14_336",
        "RN50-quickgelu": "clip_resnet50",
        "RN101-quickgelu": "clip_resnet101",
        "openai/clip-vit-base-patch32": "clip_vit_b_32",
        "openai/clip-vit-base-patch16": "clip_vit_b_16",
        "openai/clip-vit-large-patch14": "clip_vit_l_14",
        "openai/clip-vit-large-patch14-336": "clip_vit_l_14_336",
        "laion/CLIP-ViT-B-32-laion2B-s34B-b79K": "clip_vit_b_32.laion2b",
        "laion/CLIP-ViT-B-16-laion2B-s34B-b88K": "clip_vit_b_16.laion2b",
        "laion/CLIP-ViT-L-14-laion2B-s32B-b82K": "clip_vit_l_14.laion2b",
        "laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K": "clip_vit_b_32.datacomp",
        "laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K": "clip_vit_b_16.datacomp",
        "laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K": "clip_vit_l_14.datacomp",
    },
)
