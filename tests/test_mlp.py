"""What the multi-layer perceptron promises beyond the laws."""

import pytest
import torch
from laws import build, differ, perturbed

from zoo.architectures.mlp import ACTIVATIONS, ARCHITECTURE, MLPConfig


def test_every_activation_is_another_function():
    features = torch.randn(16, 6)
    outputs = [
        perturbed(ARCHITECTURE, MLPConfig(in_features=6, widths=(8,), activation=name))(features)
        for name in ACTIVATIONS
    ]
    for i, output in enumerate(outputs):
        assert all(differ(output, other) for other in outputs[:i])


def test_no_hidden_layer_leaves_a_linear_model():
    model = build(ARCHITECTURE, MLPConfig(in_features=6, widths=()))
    features = torch.randn(4, 6)
    torch.testing.assert_close(model(2 * features), 2 * model(features))


def test_dropout_keeps_the_expectation_of_each_hidden_unit():
    model = build(ARCHITECTURE, MLPConfig(in_features=6, widths=(5,), dropout=0.25))
    features = torch.randn(1, 6)
    hidden = model.eval().blocks(features)
    dropped = model.train().blocks(features.expand(40_000, -1))
    assert ((dropped == 0) | torch.isclose(dropped, hidden / 0.75)).all()
    torch.testing.assert_close(dropped.mean(0, keepdim=True), hidden, rtol=0.02, atol=0.0)


@pytest.mark.parametrize(
    ("init", "variance"), [("he", 2 / 400), ("xavier", 2 / (400 + 300))], ids=["2/fan_in", "2/(fan_in+fan_out)"]
)
def test_initial_weights_have_the_paper_s_variance(init, variance):
    model = build(ARCHITECTURE, MLPConfig(in_features=400, widths=(300,), init=init))
    assert model.blocks[0].linear.weight.var().item() == pytest.approx(variance, rel=0.02)
    assert not model.blocks[0].linear.bias.any()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"widths": (8, 0)}, "0 units"), ({"dropout": 1.0}, "dropout 1.0")],
    ids=["width", "dropout"],
)
def test_contradictions_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MLPConfig(**options)
