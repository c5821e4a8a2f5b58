"""Contrast between two towers: each image shall lie nearer to its text than to any other of the global batch.

Sources: `softmax` is Radford et al., 2021, "Learning transferable visual models from natural language supervision"
(CLIP), figure 3; `sigmoid` is Zhai et al., 2023, "Sigmoid loss for language image pre-training" (SigLIP), algorithm 1.

All samples of the global batch are rivals, however it is cut into microbatches and ranks; `zoo/training/everyone.py`
says how. The table of all their logits, 4 bytes times the square of the global batch, is there for each microbatch.
A text that stands twice in a batch is its own rival, as in CLIP: both of its images are asked to tell the copies apart,
which they cannot. Large batches of few captions learn less for it.
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.config import ConfigError
from zoo.training.data import Spec
from zoo.training.distributed import unwrapped
from zoo.training.objectives import Batch, Context, Loss, Networks, Objective, Phase
from zoo.training.retrieval import named_right, pair_losses, recalls
from zoo.training.rows import keep, kept

PROMPTS = 256
"""Texts that describe classes are read so many at once."""


@dataclass(frozen=True, kw_only=True)
class ContrastiveConfig:
    """Options of the objective."""

    loss: Literal["softmax", "sigmoid"] = "softmax"
    """`softmax`: which of the texts is an image's own, and the reverse. `sigmoid`: of each pair, whether it is one; the
    model needs a `logit_bias` for it."""
    label_smoothing: float = 0.0
    """Share of the target that is spread over all texts, or images, of the global batch; for `softmax`."""

    def __post_init__(self) -> None:
        """Refuse what cannot be shared out."""
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing {self.label_smoothing} is not in [0, 1)")
        if self.label_smoothing and self.loss == "sigmoid":
            raise ValueError(f"label_smoothing {self.label_smoothing} is for loss softmax; set it to 0")


class Temperature(NamedTuple):
    """From cosines to logits."""

    scale: Tensor
    bias: Tensor | None


class Contrastive(Objective):
    """The loss of telling pairs from all other combinations, and how well one finds the other in a whole split.

    A batch has `image` and `tokens`; or it has two texts, `tokens` and `pair_tokens`, for a model whose first tower
    reads text: then `tokens` goes where images go, and `pair_tokens` into the text tower. The model's `logit_scale`,
    applied as exp, is learnt; its `constrain`, which the trainer calls after each update, keeps it at ln 100 or below.
    """

    name = "contrastive"
    config = ContrastiveConfig
    headline = "recall@1"
    larger_is_better = True
    reads = ("tokens",)
    may_read = ("image", "pair_tokens", "target")
    supplies = ("image",)

    def __init__(self, options: Any, spec: Spec) -> None:
        """See `Objective`.

        Raises:
            ValueError: the data have neither images with texts nor pairs of texts.
        """
        super().__init__(options, spec)
        if not {"image", "pair_tokens"} & set(spec.keys):
            raise ValueError(
                f"objective contrastive needs image and tokens, or tokens and pair_tokens; the data give "
                f"{', '.join(spec.keys)}"
            )
        self.named = bool(spec.prompts) and {"image", "target"} <= set(spec.keys)
        if self.named:
            self.headline = "accuracy"

    def build(self, model: nn.Module) -> dict[str, nn.Module]:
        """No further network, but a look at the model.

        Raises:
            ConfigError: it lacks what the loss needs.
        """
        who = type(model).__name__
        if not isinstance(getattr(model, "logit_scale", None), Tensor):
            raise ConfigError(
                f"objective contrastive learns a logit_scale, which {who} lacks; take a model such as clip"
            )
        if self.options.loss == "sigmoid" and getattr(model, "logit_bias", None) is None:
            raise ConfigError(
                f"objective.loss sigmoid needs a logit_bias, which this {who} lacks; make the model with one, or take "
                "objective.loss=softmax"
            )
        vision = getattr(getattr(model, "config", None), "vision", None)
        if vision is not None and (vision == "text") == ("image" in self.spec.keys):
            found, remedy = ("images", "vit") if vision == "text" else ("pairs of texts", "text")
            raise ConfigError(
                f"the first tower of this {who} is of vision {vision!r}, but the data are {found}; set "
                f"model.vision={remedy}"
            )
        return {}

    def embed(self, phase: Phase, nets: Networks, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """The vectors of images and texts, (batch, dim) each, of length 1."""
        image, tokens = _sides(batch)
        output = nets["model"](image=image, tokens=tokens)
        return {"image": output.image_features.float(), "text": output.text_features.float()}

    def loss(self, phase: Phase, nets: Networks, batch: Batch, ctx: Context) -> Loss:
        """The summed loss of this microbatch's pairs, with this microbatch's part of the whole batch's gradient.

        Its features take the gradient of all pairs' losses, for they are rivals in all; of the gradient of scale and
        bias, which every microbatch could compute whole, it takes the share of its rows.
        """
        own = self.embed(phase, nets, batch, ctx)
        whole, start = ctx.everyone(own)
        rows, total = len(own["image"]), len(whole["image"])
        with torch.autocast(own["image"].device.type, enabled=False):
            image, text = (
                torch.cat([whole[side][:start], own[side], whole[side][start + rows :]]) for side in ("image", "text")
            )
            losses = self._losses(image, text, _temperature(nets["model"], rows / total))
            told = losses[start : start + rows].sum().detach()
            learnt = losses.sum()
            return Loss({"contrast": (told + (learnt - learnt.detach()), rows, 1.0)})

    def _losses(self, image: Tensor, text: Tensor, temperature: Temperature) -> Tensor:
        """The loss of each pair, (pairs,)."""
        logits = temperature.scale * image @ text.T
        logits = logits if temperature.bias is None else logits + temperature.bias
        if self.options.loss == "sigmoid":
            return F.softplus(logits * (1 - 2 * torch.eye(len(logits), device=logits.device))).sum(1)
        own = torch.arange(len(logits), device=logits.device)
        smooth = self.options.label_smoothing
        sides = [F.cross_entropy(s, own, reduction="none", label_smoothing=smooth) for s in (logits, logits.T)]
        return (sides[0] + sides[1]) / 2

    def evaluate(self, nets: Networks, batch: Batch, ctx: Context) -> dict[str, tuple[Tensor, Tensor | int]]:
        """The vectors of this batch, to be compared with those of the whole split."""
        places = torch.tensor([index for _, index in ctx.rows.samples])
        features = self.embed(self.phases()[0], nets, batch, ctx)
        totals: dict[str, tuple[Tensor, Tensor | int]] = {
            name: (keep(feature, places), len(places)) for name, feature in features.items()
        }
        scale, bias = _temperature(nets["model"], 1.0)
        with_bias = torch.cat([scale, torch.zeros_like(scale) if bias is None else bias])
        totals["temperature"] = (with_bias * len(places), len(places))
        if self.named:
            totals["target"] = (keep(batch["target"][:, None], places), len(places))
            if 0 in places:  # once in a split, and so once over all ranks
                totals["classes"] = (self._classes(nets["model"], batch["tokens"].device), 1)
        return totals

    def _classes(self, model: Any, device: torch.device) -> Tensor:
        """A vector for each class, (classes, dim): the normalised mean of the normalised ones of its texts."""
        texts = [torch.tensor(text) for of_class in self.spec.prompts for text in of_class]
        vectors = torch.cat([model.encode_text(torch.stack(t).to(device)).float() for t in _batches(texts)])
        means = [part.mean(0) for part in vectors.split([len(of_class) for of_class in self.spec.prompts])]
        return F.normalize(torch.stack(means), dim=-1)

    def summarize(self, totals: Any) -> dict[str, float]:
        """Metrics of a split, in which each image and each text is looked for among all.

        `recall@k` asks with the image, or the first text, for its text, `back_recall@k` the other way, as do
        `median_rank` and `back_median_rank`. `loss` has the whole split as its batch. Where the data describe their
        classes by texts, `accuracy` says how often the nearest description is the right one.
        """
        image, text = (kept(totals[side][0]).float() for side in ("image", "text"))
        scale, bias = (float(number) for number in torch.div(*totals["temperature"]))
        metrics = {"loss": pair_losses(image, text, scale, bias, self.options.loss == "sigmoid")}
        if self.named:
            target = kept(totals["target"][0])[:, 0].long()
            metrics["accuracy"] = named_right(image, totals["classes"][0].float(), target)
        return metrics | recalls(image, text)


def _batches(texts: list[Tensor]) -> list[list[Tensor]]:
    return [texts[start : start + PROMPTS] for start in range(0, len(texts), PROMPTS)]


def _sides(batch: Batch) -> tuple[Tensor, Tensor]:
    """What goes into the first tower, and what into the text tower."""
    return (batch["image"], batch["tokens"]) if "image" in batch else (batch["tokens"], batch["pair_tokens"])


def _parameter(network: nn.Module, name: str) -> Any:
    return getattr(unwrapped(network), name, None)


def _temperature(network: nn.Module, share: float) -> Temperature:
    """Scale and bias as they are, each taking this share of its gradient."""
    scale, bias = _parameter(network, "logit_scale").exp(), _parameter(network, "logit_bias")
    return Temperature(_shared(scale, share), None if bias is None else _shared(bias, share))


def _shared(value: Tensor, share: float) -> Tensor:
    return value.detach() + share * (value - value.detach())


OBJECTIVE = Contrastive
