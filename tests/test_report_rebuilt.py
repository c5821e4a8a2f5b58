"""What the page of an autoencoder shows: what comes back, and what principal components would give back."""

import numpy as np
import pytest
import torch
from pages import PNG, Elements
from sklearn.decomposition import PCA

import zoo
from zoo.nn.patches import to_patches
from zoo.report import compare_page, components, plots, rebuilt, run_page
from zoo.report.components import Point, principal, unit
from zoo.training.assemble import load_data
from zoo.training.log import read_log

DIGITS = {"name": "digits", "normalize": "none"}
MAE = {
    "patch_size": 2, "dim": 16, "depth": 1, "num_heads": 2, "mlp_dim": 16, "decoder_dim": 16, "decoder_depth": 1,
    "decoder_num_heads": 2, "decoder_mlp_dim": 16,
}  # fmt: skip


def trained(folder, model, data=DIGITS, **objective):
    config = {"model": model, "data": data, "trainer": {"steps": 5}}
    zoo.Trainer(
        zoo.RunConfig.of({**config, **({"objective": objective} if objective else {})}), out=folder, quiet=True
    ).fit()
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two autoencoders of digits."""
    root = tmp_path_factory.mktemp("runs")
    for length in (2, 5):
        trained(root / f"k{length}", {"name": "autoencoder", "widths": [16], "latent_dim": length})
    return root


@pytest.fixture
def drawn(monkeypatch):
    """The arguments of every plot, by the plot's name."""
    kept = {}
    draw = plots.draw

    def watch(name, plot, *args, size):
        kept[plot.__name__] = args
        return draw(name, plot, *args, size=size)

    monkeypatch.setattr(plots, "draw", watch)
    return kept


@pytest.mark.parametrize("normalize", ["none", "standard"])
def test_principal_components_are_scikit_learns(normalize):
    splits = load_data({"name": "digits", "normalize": normalize})
    train, test = (unit(part, splits.spec) for part in (splits.train, splits.test))
    found = principal(splits)
    errors = found.errors(test)
    assert errors[[2, 8, 16]] == pytest.approx([0.0546, 0.0253, 0.0120], abs=5e-5)
    theirs = PCA(5).fit(train.flatten(1))
    back = theirs.inverse_transform(theirs.transform(test.flatten(1)))
    assert errors[5] == pytest.approx(np.square(back - test.flatten(1).numpy()).mean(), rel=1e-4)
    np.testing.assert_allclose(found.rebuilt(test, 5).flatten(1), np.clip(back, 0, 1), atol=1e-4)
    assert errors[-1] == pytest.approx(0, abs=1e-12)


def test_an_autoencoder_is_shown_beside_as_many_components(runs, drawn):
    run_page(runs / "k2")
    strips, _ = drawn["pictures"]
    splits = load_data(DIGITS)
    image = unit(splits.test, splits.spec)[[0, 359]]
    back = zoo.load(runs / "k2" / "model").eval()(image).reconstruction.detach().clamp(0, 1)
    linear = principal(splits).rebuilt(image, 2)
    for strip, *column in zip([strips[0], strips[-1]], image, back, linear, strict=True):
        for place, expected in enumerate(column):
            top = place * (96 + rebuilt.LINE)
            np.testing.assert_allclose(strip[top : top + 96 : 12, ::12], expected[0], atol=1e-5)
    errors, points = drawn["over_length"]
    assert errors[2] == pytest.approx(0.0546, abs=5e-5)
    (point,) = points
    assert point.latent_dim == 2
    assert point.error == list(read_log(runs / "k2" / "log.jsonl"))[-1]["mse"]
    assert "2 principal components give back" in Elements((runs / "k2" / "report.html").read_text()).text


def test_codes_of_two_numbers_are_a_map_and_longer_ones_are_not(runs, drawn):
    run_page(runs / "k5")
    assert "maps" not in drawn
    run_page(runs / "k2")
    ((_, codes), (_, linear)), targets, labels = drawn["maps"]
    assert codes.shape == linear.shape == (360, 2)
    splits = load_data(DIGITS)
    assert torch.equal(targets, splits.test.fetch(range(360), None)["target"])
    assert labels == tuple("0123456789")
    assert (runs / "k2" / "report" / "codes.png").read_bytes().startswith(PNG)


def test_several_autoencoders_of_the_same_images_share_one_plot(runs, drawn, tmp_path):
    path = compare_page([runs / "k5", runs / "k2"], tmp_path / "both.html")
    _, points = drawn["over_length"]
    assert [(point.name, point.latent_dim) for point in points] == [("k5", 5), ("k2", 2)]
    assert (tmp_path / "both" / "components.png").read_bytes().startswith(PNG)
    assert "Beside principal components" in Elements(path.read_text()).text


@pytest.mark.parametrize(
    ("model", "data"),
    [
        ({"name": "mlp", "widths": [4]}, DIGITS),
        ({"name": "autoencoder", "widths": [4], "latent_dim": 2}, {**DIGITS, "classes": [0, 1]}),
    ],
    ids=["another model", "other images"],
)
def test_runs_that_do_not_compare_share_none(runs, drawn, tmp_path, model, data):
    compare_page([runs / "k2", trained(tmp_path / "other", model, data)], tmp_path / "both.html")
    assert "over_length" not in drawn


def test_of_a_masked_image_the_hidden_patches_are_grey_then_filled_in(tmp_path, drawn):
    run_page(trained(tmp_path / "mae", {"name": "mae", **MAE}))
    strips, _ = drawn["pictures"]
    splits = load_data(DIGITS)
    for strip, image in zip([strips[0], strips[-1]], unit(splits.test, splits.spec)[[0, 359]], strict=True):
        seen, filled, whole = (
            torch.tensor(strip[top : top + 96 : 12, ::12])[None, None]
            for top in range(0, len(strip), 96 + rebuilt.LINE)
        )
        torch.testing.assert_close(whole[0], image)
        hidden = (to_patches(seen, 2) == rebuilt.HIDDEN).all(-1)
        assert hidden.sum() == 12
        torch.testing.assert_close(to_patches(seen, 2)[~hidden], to_patches(whole, 2)[~hidden])
        torch.testing.assert_close(to_patches(filled, 2)[~hidden], to_patches(whole, 2)[~hidden])
        assert (to_patches(filled, 2)[hidden] != to_patches(whole, 2)[hidden]).any()


def test_patches_that_are_normalised_get_their_own_light_back(tmp_path, drawn):
    objective = {"name": "masked_reconstruction", "normalize_patches": True}
    run_page(trained(tmp_path / "mae", {"name": "mae", **MAE}, **objective))
    strips, _ = drawn["pictures"]
    filled, whole = (
        torch.stack([torch.tensor(strip[top : top + 96 : 12, ::12]) for strip in strips]) for top in (100, 200)
    )
    assert abs(filled.mean() - whole.mean()) < 0.05


def test_a_distribution_s_mean_comes_back_in_colour(tmp_path, drawn):
    data = {"name": "photo_patches", "image_size": 8, "samples": 64}
    run_page(trained(tmp_path / "vae", {"name": "vae", "widths": [4], "mlp_dim": 8, "latent_dim": 2}, data))
    strips, _ = drawn["pictures"]
    assert {strip.shape for strip in strips} == {(2 * 96 + rebuilt.LINE, 96, 3)}
    assert "over_length" not in drawn


def test_images_that_are_too_large_have_no_components(monkeypatch, runs, drawn):
    monkeypatch.setattr(components, "MAX_NUMBERS", 63)
    run_page(runs / "k5")
    assert "over_length" not in drawn
    assert len(drawn["pictures"][0][0]) == 2 * 96 + rebuilt.LINE


def test_the_plot_marks_each_autoencoder_and_as_many_components():
    from matplotlib.figure import Figure

    figure = Figure()
    components.over_length(figure, np.array([1.0, 0.5, 0.25, 0.2]), [Point("mine", 2, 0.1, plots.FIRST)])
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["0.2500", "0.1000"]
