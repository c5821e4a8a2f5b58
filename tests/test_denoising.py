"""Denoising as an objective: what the network is shown and asked, how errors weigh, and what is drawn in evaluation."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

import zoo
from zoo.config import ConfigError
from zoo.diffusion import divergence
from zoo.training.data import Spec
from zoo.training.objectives import Context
from zoo.training.objectives.denoising import Denoising, DenoisingConfig
from zoo.training.random import Rows
from zoo.training.run import RunConfig
from zoo.training.trainer import Trainer

SPEC = Spec(
    keys=("image", "target"), in_channels=1, image_size=4, num_classes=3, mean=(0.5,), std=(0.5,),
    value_range=(0.0, 1.0),
)  # fmt: skip

TINY = {"name": "unet", "channels": (8,), "depth": 1, "attention_levels": (), "norm_groups": 4}
DIGITS = {"name": "digits", "normalize": "range", "batch_size": 32}
SMALL = {"patch_size": 2, "dim": 16, "depth": 1, "num_heads": 2, "mlp_dim": 16}


class Sizes:
    num_classes = None


class Network(nn.Module):
    """Remembers what it was asked, and answers zeros."""

    def __init__(self, num_classes=None):
        super().__init__()
        self.config, self.asked = Sizes(), []
        self.config.num_classes = num_classes
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, image, timestep, label=None):
        self.asked.append((image, timestep, label))
        return 0 * self.scale * image


def context(count=5, training=True):
    return Context(
        rows=Rows(0, "", [(0, index) for index in range(count)], torch.device("cpu")), step=0, training=training
    )


def batch(count=5):
    image = torch.rand(count, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return {"image": image, "target": torch.arange(count) % 3}


def ready(network, **options):
    objective = Denoising(DenoisingConfig(**options), SPEC)
    objective.build(network)
    return objective


def loss(network, count=5, training=True, **options):
    objective = ready(network, **options)
    total, rows, weight = objective.loss(
        objective.phases()[0], {"model": network}, batch(count), context(count, training)
    ).terms["denoising"]
    assert (rows, weight) == (count, 1.0)
    return objective, total


@pytest.mark.parametrize("prediction", ["noise", "x0", "v"])
def test_the_loss_is_the_squared_error_of_the_prediction_of_a_noisy_image(prediction):
    network = Network()
    objective, total = loss(network, prediction=prediction)
    shown, timestep, label = network.asked[0]
    noise = context().rows.normal("noise", (1, 4, 4))
    assert label is None
    assert torch.allclose(shown, objective.diffusion.noisy(batch()["image"], noise, timestep))
    target = objective.diffusion.target(batch()["image"], noise, timestep)
    assert total.item() == pytest.approx(target.square().mean((1, 2, 3)).sum().item(), rel=1e-5)


def test_a_row_s_noise_and_time_are_its_own_whatever_the_batch():
    few, many = Network(), Network()
    loss(few, count=2)
    loss(many, count=5)
    assert torch.equal(few.asked[0][0], many.asked[0][0][:2])
    assert torch.equal(few.asked[0][1], many.asked[0][1][:2])


@pytest.mark.parametrize("prediction", ["noise", "x0", "v"])
def test_min_snr_weighs_errors_of_the_image_whatever_is_predicted(prediction):
    objective = ready(Network(), prediction=prediction, min_snr=5.0)
    timestep = torch.tensor([50, 300, 600, 900])
    alpha, sigma = objective.diffusion.schedule.level(timestep)
    snr = (alpha / sigma).square()
    assert snr.min() < 5 < snr.max()
    of_the_image = {"noise": 1 / snr, "x0": torch.ones(4), "v": 1 / (snr + 1)}[prediction]
    assert torch.allclose(objective._weight(timestep), snr.clamp(max=5.0) * of_the_image, rtol=1e-4)


def test_classes_are_hidden_in_training_alone_and_as_often_as_asked_for():
    network = Network(num_classes=3)
    loss(network, count=600, label_dropout=0.2)
    label = network.asked[0][2]
    assert 0.15 < (label == 3).float().mean() < 0.25
    assert torch.equal(label[label < 3], batch(600)["target"][label < 3])
    loss(network, training=False, label_dropout=0.2)
    assert torch.equal(network.asked[1][2], batch()["target"])


def test_guidance_asks_for_the_class_and_for_none():
    network = Network(num_classes=3)
    objective = ready(network, label_dropout=0.1, guidance=2.0, sampling_steps=2, sampler="ddim")
    image = objective.draw({"model": network}, torch.randn(5, 1, 4, 4), batch()["target"])
    assert image.abs().max() <= 1
    assert [label.tolist() for _, _, label in network.asked] == 2 * [batch()["target"].tolist(), [3] * 5]


def test_images_are_drawn_as_large_as_the_options_say():
    noise = torch.randn(5, 1, 4, 4)
    for clip in (0.5, 1.0, None):
        largest = ready(Network(), clip=clip, sampling_steps=2).draw({"model": Network()}, noise, None).abs().max()
        assert largest > 2 if clip is None else largest == clip


def test_what_sampling_must_know_is_remembered():
    facts = ready(Network(), schedule="flow", prediction="velocity", schedule_options={"shift": 3.0}).facts()
    words = {"schedule": "flow", "prediction": "velocity", "schedule_options": {"shift": 3.0}}
    assert facts == {"diffusion": {**words, "clip": 1.0}}
    assert ready(Network(), clip=None).facts()["diffusion"]["clip"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": "edm"}, "schedule edm does not go with prediction noise; edm is both or neither"),
        ({"schedule_options": {"shft": 1.0}}, "schedule_options shft: the schedule linear knows start, end, steps"),
        ({"guidance": 2.0}, "guidance 2.0 needs a network that knows no class too; set label_dropout=0.1"),
        ({"label_dropout": 1.0}, r"label_dropout 1.0 is not in \[0, 1\)"),
        ({"min_snr": 0.0}, "min_snr 0.0 is not positive"),
        ({"sampling_steps": 2000}, "steps 2000 is not in 1 to 1000"),
    ],
    ids=str,
)
def test_options_that_mean_nothing_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        DenoisingConfig(**options)


def test_classes_are_the_data_s():
    with pytest.raises(ConfigError, match=r"the data no classes; set model.num_classes=0"):
        Denoising(DenoisingConfig(), Spec(keys=("image",))).build(Network(num_classes=3))
    with pytest.raises(ConfigError, match="label_dropout hides classes, and the network has none"):
        ready(Network(), label_dropout=0.1)


def test_images_are_drawn_with_fresh_noise_by_ddpm():
    network = Network()
    objective = ready(network, sampler="ddpm", sampling_steps=3)
    steps = []

    def draw_noise(step):
        steps.append(step)
        return torch.ones(5, 1, 4, 4)

    objective.draw({"model": network}, torch.zeros(5, 1, 4, 4), None, draw_noise)
    assert steps == [0, 1]


class Saying(Network):
    """Takes what it is shown for the noise, and says how much variance."""

    def __init__(self, spread):
        super().__init__()
        self.spread = nn.Parameter(torch.tensor(spread))

    def forward(self, image, timestep, label=None):
        return torch.cat([self.scale * image, 0 * image + 2 * self.spread - 1], 1)


def test_a_variance_is_learnt_by_the_bound_and_the_prediction_is_not():
    network = Saying(0.5)
    objective = ready(network)
    terms = objective.loss(objective.phases()[0], {"model": network}, batch(), context()).terms
    assert terms["bound"][2] == 0.001
    gradients = [
        torch.autograd.grad(terms[name][0], (network.scale, network.spread), retain_graph=True, allow_unused=True)
        for name in ("bound", "denoising")
    ]
    assert [[bool(gradient) for gradient in pair] for pair in gradients] == [[False, True], [True, False]]


def test_the_bound_of_a_learnt_variance_is_in_bits_of_all_steps():
    network, (timestep,) = Saying(0.3), (context(1).rows.uniform("timestep") * 1000).long()
    assert timestep > 0
    objective = ready(network)
    total = objective.loss(objective.phases()[0], {"model": network}, batch(1), context(1)).terms["bound"][0]
    image, noise = batch(1)["image"], context(1).rows.normal("noise", (1, 4, 4))
    x, times = objective.diffusion.noisy(image, noise, timestep[None]), (timestep[None], timestep[None] - 1)
    nats = divergence(objective.diffusion, x, network(x, timestep[None]), image, *times)
    assert total.item() == pytest.approx(1000 * nats.item() / 16 / math.log(2), rel=1e-4)


def test_a_variance_is_not_learnt_where_time_has_no_steps():
    network = zoo.create(zoo.config("dit", **SMALL))
    with pytest.raises(ConfigError, match=r"flow has no steps whose variance .* set model.learned_sigma=false"):
        ready(network, schedule="flow", prediction="velocity")
    network = zoo.create(zoo.config("unet", **{key: TINY[key] for key in TINY.keys() - {"name"}}, out_channels=6))
    with pytest.raises(ConfigError, match="or choose linear, scaled_linear, cosine or sigmoid"):
        ready(network, schedule="flow", prediction="velocity")


def test_an_output_is_a_prediction_or_one_with_the_variance():
    network = zoo.create(zoo.config("unet", **{key: TINY[key] for key in TINY.keys() - {"name"}}, out_channels=5))
    with pytest.raises(ConfigError, match=r"UNet has out_channels 5 for in_channels 3; .* set model.out_channels=3"):
        ready(network)


def test_bits_are_counted_of_levels_that_are_known():
    with pytest.raises(ConfigError, match="do not say how many different ones there are"):
        ready(Network(), bound=5)
    objective = Denoising(DenoisingConfig(bound=100, prediction="x0"), replace(SPEC, levels=17))
    objective.build(Network())
    image = (batch(40)["image"] * 8).round() / 8
    with torch.no_grad():
        totals = objective.evaluate({"model": Network()}, {"image": image}, context(40, training=False))
    assert totals["bits_per_dim"][1] == 100 * 40
    alpha, sigma = objective.diffusion.schedule.level(torch.tensor(0))
    nats = float((alpha / sigma * image).square().mean() / 2)  # of an image that a network takes for grey at every step
    assert objective.summarize(totals)["bits_per_dim"] == pytest.approx(nats / math.log(2), rel=0.03)


@pytest.mark.parametrize("classes", [0, 10])
def test_a_network_may_be_told_the_classes_of_labelled_images_or_not(classes):
    config = RunConfig.of(
        {"model": TINY | {"num_classes": classes}, "data": DIGITS, "objective": {"name": "denoising", "bound": 1},
         "trainer": {"steps": 2, "device": "cpu"}}
    )  # fmt: skip
    trainer = Trainer(config, quiet=True)
    metrics = trainer.fit().metrics
    assert trainer.config.model["num_classes"] == classes
    assert (trainer.objective.num_classes or 0) == classes
    assert metrics["bits_per_dim"] > 1


def test_a_network_is_not_told_fewer_classes_than_there_are():
    with pytest.raises(ConfigError, match="UNet has num_classes 9, but the data have 10"):
        Trainer(RunConfig.of({"model": TINY | {"num_classes": 9}, "data": DIGITS, "trainer": {"steps": 1}}))


def test_a_network_that_says_the_variance_is_trained_and_drawn_from():
    config = RunConfig.of(
        {"model": {"name": "dit", **SMALL}, "data": DIGITS, "trainer": {"steps": 3, "device": "cpu", "log_every": 1},
         "objective": {"name": "denoising", "bound": 1, "sampler": "ddpm", "sampling_steps": 2,
                       "features": "resnet20.digits"}}
    )  # fmt: skip
    metrics = Trainer(config, quiet=True).fit().metrics
    assert {"bits_per_dim", "frechet_distance", "as_asked"} <= metrics.keys()
    assert all(math.isfinite(value) for value in metrics.values())
