"""Masked reconstruction: what is hidden, what is asked for, how it is counted, and that something is learnt."""

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

import zoo
from zoo.architectures.mae import ARCHITECTURE, MAEOutput
from zoo.config import ConfigError
from zoo.nn.patches import to_patches
from zoo.training.data import Spec
from zoo.training.objectives import Context, suited
from zoo.training.objectives.masked_reconstruction import MaskedReconstruction, MaskedReconstructionConfig
from zoo.training.random import Rows

SPEC = Spec(keys=("image", "target"), in_channels=1, image_size=8, num_classes=10)
SMALL = {
    "image_size": 8, "patch_size": 2, "in_channels": 1, "dim": 32, "depth": 2, "num_heads": 4, "mlp_dim": 64,
    "decoder_dim": 32, "decoder_depth": 1, "decoder_num_heads": 4, "decoder_mlp_dim": 64,
}  # fmt: skip


def context(rows, epoch=0, first=0):
    samples = [(epoch, first + row) for row in range(rows)]
    return Context(step=0, rows=Rows(0, "train/", samples, torch.device("cpu")), training=True)


def digits(rows=6):
    return torch.from_numpy(load_digits().images[:rows]).float()[:, None] / 8 - 1


class Recorder(nn.Module):
    """Remembers the noise that it is given, hides the patches above the median, and predicts 0.5 everywhere."""

    def example_inputs(self, batch_size):
        return {"image": torch.zeros(batch_size, 1, 8, 8), "noise": torch.zeros(batch_size, 16)}

    def forward(self, image, noise):
        self.noise = noise
        return MAEOutput(torch.full((len(image), 16, 4), 0.5), noise > noise.median(1, keepdim=True).values)


def judged(batch, ctx, model=None, **options):
    objective, model = MaskedReconstruction(MaskedReconstructionConfig(**options), SPEC), model or Recorder()
    objective.build(model)
    return model, objective.loss(objective.phases()[0], {"model": model}, batch, ctx)


def test_the_loss_is_the_mean_squared_error_of_the_hidden_numbers_alone():
    image = digits()
    model, loss = judged({"image": image}, context(6))
    total, count, weight = loss.terms["squared_error"]
    hidden = model.noise > model.noise.median(1, keepdim=True).values
    assert hidden.sum(1).tolist() == [8] * 6
    torch.testing.assert_close(total / count, (to_patches(image, 2)[hidden] - 0.5).square().mean())
    assert (count, weight) == (6, 1.0)


@pytest.mark.peers
@pytest.mark.parametrize("normalize", [False, True], ids=["pixels", "normalised"])
@torch.no_grad()
def test_the_loss_is_transformers(normalize, tmp_path):
    transformers = pytest.importorskip("transformers")
    model = zoo.create("mae", **SMALL)
    config = transformers.ViTMAEConfig(
        image_size=8, patch_size=2, num_channels=1, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64, decoder_hidden_size=32, decoder_num_hidden_layers=1, decoder_num_attention_heads=4,
        decoder_intermediate_size=64, layer_norm_eps=1e-6, norm_pix_loss=normalize,
    )  # fmt: skip
    zoo.export_weights(model, tmp_path / "model.safetensors", format="transformers")
    config.save_pretrained(tmp_path)
    theirs = transformers.ViTMAEForPreTraining.from_pretrained(tmp_path)
    _, loss = judged({"image": digits()}, context(6), model, normalize_patches=normalize)
    total, count, _ = loss.terms["squared_error"]
    expected = theirs(digits(), noise=context(6).rows.uniform("noise", (16,))).loss
    torch.testing.assert_close(total / count, expected)


def test_a_patch_of_one_colour_is_normalised_to_zero():
    _, loss = judged({"image": torch.full((2, 1, 8, 8), 0.7)}, context(2), normalize_patches=True)
    total, count, _ = loss.terms["squared_error"]
    assert total / count == pytest.approx(0.25)  # predicted is 0.5


def test_other_patches_are_hidden_in_every_epoch_and_the_same_whatever_the_batch():
    batch = {"image": digits()}
    first, again, later = (judged(batch, context(6, epoch))[0].noise for epoch in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, later)
    assert torch.equal(judged({"image": batch["image"][4:5]}, context(1, first=4))[0].noise, first[4:5])


def test_microbatches_add_up_to_the_batch():
    image, model = digits(), zoo.create("mae", **SMALL)
    whole, *parts = (
        judged({"image": image[a:b]}, context(b - a, first=a), model)[1].terms["squared_error"]
        for a, b in ((0, 6), (0, 2), (2, 6))
    )
    torch.testing.assert_close(whole[0], parts[0][0] + parts[1][0])
    assert whole[1] == parts[0][1] + parts[1][1]


def test_a_model_that_hides_nothing_is_refused():
    objective = MaskedReconstruction(MaskedReconstructionConfig(), SPEC)
    with pytest.raises(ConfigError, match=r"MLP takes none; set model\.name=mae"):
        objective.build(zoo.create("mlp", in_features=4, num_classes=2))


def test_a_short_run_learns_where_digits_have_ink():
    assert suited(ARCHITECTURE.task, SPEC, ("image", "noise")) == "masked_reconstruction"
    assert suited("image-to-image", SPEC, ("image",)) == "reconstruction"
    sections = {
        "model": {"name": "mae", **{name: value for name, value in SMALL.items() if name != "image_size"}},
        "data": {"name": "digits", "batch_size": 64},
        "optimizer": {"lr": 6e-3, "weight_decay": 0.05},
        "trainer": {"steps": 100, "ema": 0.9},
    }
    done = zoo.Trainer(zoo.RunConfig.of(sections), quiet=True).fit()
    assert done.metrics["loss"] < 0.65  # 1 is what a single grey everywhere gives
    untouched = zoo.create("mae", **SMALL)
    assert torch.equal(done.model.embed.positions, untouched.embed.positions)
    assert torch.equal(done.model.decoder.positions, untouched.decoder.positions)
