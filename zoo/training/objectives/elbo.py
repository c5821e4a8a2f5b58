"""The evidence lower bound, which variational autoencoders maximise.

Source: Kingma and Welling (2014), https://arxiv.org/abs/1312.6114, equation 10 with one sample of z, and beta from
Higgins et al. (2017), https://openreview.net/forum?id=Sy2fzU9gl, equation 4:

    loss = E -log p(x | z) + beta KL(q(z|x) || N(0, 1)),    z = mu + exp(logvar / 2) noise
    KL   = 1/2 sum (mu^2 + exp(logvar) - 1 - logvar)        (appendix B)

Everything is in nats per image. A warm-up of beta (Bowman et al., 2016, https://arxiv.org/abs/1511.06349, section 3.1)
lets the decoder find a use for z before it costs anything.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.config import ConfigError
from zoo.training.data import Spec
from zoo.training.judging import JudgeConfig, Jury, Totals
from zoo.training.objectives import Batch, Context, Loss, Networks, Objective, Phase, rows
from zoo.training.objectives.reconstruction import check_autoencoder
from zoo.training.quality import QualityConfig, quality, unit_image, unit_scale


@dataclass(frozen=True, kw_only=True)
class ELBOConfig(JudgeConfig, QualityConfig):
    """Options of the objective."""

    likelihood: Literal["gaussian", "bernoulli"] = "gaussian"
    """Of a pixel: normal around the reconstruction, or for images in [0, 1] with the reconstruction as probability."""
    sigma: float = 0.1
    """The Gaussian's standard deviation, for images in [0, 1]: how wrong a pixel may be."""
    beta: float = 1.0
    """The weight of the KL divergence; 1 is the bound itself."""
    beta_warmup: int = 0
    """Steps over which it rises linearly from 0."""

    def __post_init__(self) -> None:
        """Refuse numbers out of range."""
        super().__post_init__()
        if not self.sigma > 0:
            raise ValueError(f"sigma {self.sigma} is not positive")
        for name in ("beta", "beta_warmup"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} {getattr(self, name)} is negative")


class ELBO(Objective):
    """Reconstruction from a latent that is drawn, and the price of saying which latent.

    A batch has `image`, (batch, channels, height, width). The model's forward takes `noise` too, its output has
    `reconstruction`, `mu` and `logvar`, and `latent_shape(image)` says of what shape an image's noise is.

    Evaluation gives `elbo`, the bound without beta, and its parts `nll` and `kl`, in nats per image (a Gaussian's is a
    density over images in [0, 1], and may be negative); `mse`, the error per pixel of what the mean of the latent
    gives, for images in [0, 1]; with a Bernoulli likelihood also `bits_per_dim`, -elbo in bits per pixel and channel,
    which for images of black and white alone bounds what it takes to store them. Where it is asked for, what
    `zoo.training.quality` says of these reconstructions.

    With a judge, evaluation also decodes latents that are drawn from the prior, N(0, 1), and gives what
    `zoo.training.judging` says of the images: the means of p(x | z), for its deviation is not what images look like.
    """

    name = "elbo"
    config = ELBOConfig
    headline = "elbo"
    larger_is_better = True
    reads = ("image",)

    def __init__(self, options: Any, spec: Spec) -> None:
        """See `Objective`.

        Raises:
            ConfigError: the likelihood is Bernoulli's, and the images are not in [0, 1], or the judge cannot look at
                them.
        """
        super().__init__(options, spec)
        options.check_quality()
        self.jury = Jury(options, spec)
        self.latent_shape: Callable[[Tensor], tuple[int, ...]] | None = None
        plain = not any(spec.mean) and spec.value_range in (None, (0.0, 1.0)) and set(spec.std) <= {1.0}
        if options.likelihood == "bernoulli" and not plain:
            raise ConfigError("objective.likelihood bernoulli needs images in [0, 1]; set data.normalize=none")

    def networks(self, model: nn.Module) -> dict[str, nn.Module]:
        """The model, if its latents are distributions, and a Bernoulli's reconstructions probabilities."""
        known: Any = check_autoencoder(model, self.name)
        if not hasattr(known, "latent_shape"):
            raise ConfigError(
                f"objective elbo needs a distribution over latents, of which {type(model).__name__} has none; set "
                "model.name=vae, or objective.name=reconstruction"
            )
        output = getattr(getattr(model, "config", None), "output", None)
        if self.options.likelihood == "bernoulli" and output not in (None, "sigmoid"):
            raise ConfigError(
                f"objective.likelihood bernoulli needs reconstructions that are probabilities, and model.output is "
                f"{output}; set model.output=sigmoid"
            )
        self.latent_shape = known.latent_shape
        return {"model": model}

    def loss(self, phase: Phase, nets: Networks, batch: Batch, ctx: Context) -> Loss:
        """Both parts, the second weighted with the step's beta."""
        nll, kl = self._parts(nets, batch, self._noise(batch, ctx))
        return Loss({"nll": (nll, rows(batch), 1.0), "kl": (kl, rows(batch), self.beta(ctx))})

    def beta(self, ctx: Context) -> float:
        """The weight of the divergence at this step."""
        warmup = self.options.beta_warmup if ctx.training else 0
        return self.options.beta * (min(1.0, ctx.step / warmup) if warmup else 1.0)

    def evaluate(self, nets: Networks, batch: Batch, ctx: Context) -> Totals:
        """Both parts with noise that each image always gets, what is told of reconstructions without, and drawings."""
        image = batch["image"]
        nll, kl = self._parts(nets, batch, self._noise(batch, ctx))
        reconstruction = nets["model"](image=image, noise=None).reconstruction.float()
        error = self._error(reconstruction, image)
        totals: Totals = {
            "nll": (nll, rows(batch)),
            "kl": (kl, rows(batch)),
            "mse": (error.square().sum(), error.numel()),
        }
        if self.options.quality:
            totals |= quality(unit_image(reconstruction, self.spec), unit_image(image, self.spec))
        if self.jury.judge is not None:
            z = ctx.rows.normal("samples", (self.options.samples_per_image, *self._latent_shape(image))).flatten(0, 1)
            decoder: Any = nets["model"]
            real, drawn = (2 * unit_image(some, self.spec) - 1 for some in (image, decoder.decode(z).float()))
            totals |= self.jury.totals(real, drawn, samples=ctx.rows.samples)
        return totals

    def summarize(self, totals: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, float]:
        """The bound, its parts, the error, how alike images look, and what the judge says."""
        plain = ("nll", "kl", "mse", "psnr", "ssim", "ms_ssim")
        mean = {name: float(torch.div(*totals[name])) for name in plain if name in totals}
        metrics = {"elbo": -mean["nll"] - mean["kl"], **mean, **self.jury.metrics(totals)}
        if self.options.likelihood == "bernoulli":
            pixels = float(totals["mse"][1] / totals["nll"][1])
            metrics["bits_per_dim"] = -metrics["elbo"] / pixels / math.log(2)
        return metrics

    def _latent_shape(self, image: Tensor) -> tuple[int, ...]:
        if self.latent_shape is None:
            raise ConfigError("objective elbo has not seen its model yet; call networks(model) first")
        return self.latent_shape(image)

    def _noise(self, batch: Batch, ctx: Context) -> Tensor:
        return ctx.rows.normal("noise", self._latent_shape(batch["image"]))

    def _error(self, reconstruction: Tensor, image: Tensor) -> Tensor:
        """Of images in [0, 1]."""
        return (reconstruction - image) * image.new_tensor(unit_scale(self.spec))[:, None, None]

    def _parts(self, nets: Networks, batch: Batch, noise: Tensor) -> tuple[Tensor, Tensor]:
        """The summed -log p(x | z) and the summed divergence."""
        image = batch["image"]
        output = nets["model"](image=image, noise=noise)
        reconstruction, mu, logvar = (value.float() for value in output)
        with torch.autocast(image.device.type, enabled=False):
            if self.options.likelihood == "bernoulli":
                nll = F.binary_cross_entropy(reconstruction, image, reduction="sum")
            else:
                sigma, error = self.options.sigma, self._error(reconstruction, image)
                nll = (error / sigma).square().sum() / 2 + error.numel() * math.log(sigma * math.sqrt(2 * math.pi))
            return nll, divergence(mu, logvar).sum()


def divergence(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mu, exp(logvar)) || N(0, 1)) of each number, of the same shape."""
    return (mu.square() + logvar.exp() - 1 - logvar) / 2


OBJECTIVE = ELBO
