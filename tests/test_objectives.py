"""Classification and regression: their losses against the textbook, and their metrics against scikit-learn."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn_metrics
from torch import nn
from torch.nn import functional as F

from zoo.architectures.perceptron import Perceptron, PerceptronConfig
from zoo.config import ConfigError, build
from zoo.training.data import Spec
from zoo.training.data.arrays import Arrays
from zoo.training.distributed import World
from zoo.training.evaluation import evaluate
from zoo.training.objectives import OBJECTIVES, Context, Phase, suited
from zoo.training.objectives.classification import perceptron_criterion
from zoo.training.random import Rows

CLASSES = Spec(keys=("features", "target"), num_classes=4, in_features=6)
QUANTITIES = replace(CLASSES, num_classes=2, target_mean=(150.0, -3.0), target_std=(80.0, 0.5))
TRAIN = Phase("train", ("model",))
CTX = Context(0, Rows(0, "", [(0, 0)], torch.device("cpu")), training=True)
CPU = World(0, 1, torch.device("cpu"))


def test_networks_of_one_task_are_told_apart_by_what_they_take():
    images = Spec(keys=("image",), in_channels=1, image_size=8)
    assert suited("unconditional-image-generation", images, ("z", "label")) == "adversarial"
    assert suited("unconditional-image-generation", images, ("image", "timestep", "label")) == "denoising"


class Given(nn.Module):
    """A model that answers with what the batch says."""

    def forward(self, features):
        return features


def objective(name, spec, **options):
    found = OBJECTIVES.find(name)
    return found(build(found.config, options, "objective"), spec)


def measure(goal, outputs, target, batch_size=7):
    split = Arrays({"features": outputs, "target": target})
    return evaluate(goal, {"model": Given()}, split, split.tensors, batch_size, CPU)


def test_cross_entropy_is_summed_and_counted_so_that_batches_add_up():
    logits, target = torch.randn(9, 4), torch.randint(4, (9,))
    goal = objective("classification", CLASSES, label_smoothing=0.1)
    losses = [
        goal.loss(TRAIN, {"model": Given()}, {"features": logits[part], "target": target[part]}, CTX)
        for part in (slice(0, 9), slice(0, 2), slice(2, 9))
    ]
    sums, counts, weights = zip(*(loss.terms["cross_entropy"] for loss in losses), strict=True)
    assert (counts, set(weights)) == ((9, 2, 7), {1.0})
    torch.testing.assert_close(sums[0], sums[1] + sums[2])
    torch.testing.assert_close(sums[0] / 9, F.cross_entropy(logits, target, label_smoothing=0.1))


def test_label_smoothing_is_for_training_only():
    logits, target = torch.randn(9, 4), torch.randint(4, (9,))
    found = measure(objective("classification", CLASSES, label_smoothing=0.5), logits, target)
    assert found["loss"] == pytest.approx(float(F.cross_entropy(logits, target)), rel=1e-5)


def test_accuracy_is_the_share_of_hits_over_batches_of_any_size():
    logits, target = torch.randn(101, 4), torch.randint(4, (101,))
    for batch_size in (1, 7, 101):
        found = measure(objective("classification", CLASSES), logits, target, batch_size)
        assert found["accuracy"] == pytest.approx(float((logits.argmax(1) == target).double().mean()))
        assert set(found) == {"loss", "accuracy"}


def test_with_many_classes_the_five_best_count_too():
    logits, target = torch.randn(40, 60), torch.randint(60, (40,))
    found = measure(objective("classification", replace(CLASSES, num_classes=60)), logits, target)
    expected = sklearn_metrics.top_k_accuracy_score(target, logits, k=5, labels=range(60))
    assert found["top5_accuracy"] == pytest.approx(expected)


def one_step(model, features, target):
    """What SGD with lr 1 and a batch of one adds to the weights and the bias."""
    goal = objective("classification", replace(CLASSES, num_classes=model.config.num_classes), loss="perceptron")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    optimizer.zero_grad()
    total, count, weight = goal.loss(TRAIN, {"model": model}, {"features": features, "target": target}, CTX).terms[
        "perceptron"
    ]
    (total * weight / count).backward()
    optimizer.step()
    return [model.state_dict()[name] - before[name] for name in ("head.weight", "head.bias")]


def perceptron(num_classes, zero):
    model = Perceptron(PerceptronConfig(in_features=6, num_classes=num_classes))
    if zero:
        nn.init.zeros_(model.head.weight)
        nn.init.zeros_(model.head.bias)
    return model


@pytest.mark.parametrize("zero", [False, True], ids=["random weights", "zero weights"])
def test_a_mistake_moves_the_right_class_towards_x_and_the_rival_away_as_rosenblatt_says(zero):
    model, x = perceptron(4, zero), torch.randn(1, 6)
    scores = model(x)[0].detach()
    wrong = int(scores.argmin())
    weight, bias = one_step(model, x, torch.tensor([wrong]))
    rivals = [j for j in range(4) if weight[j].any() and j != wrong]
    assert len(rivals) == 1
    assert scores[rivals[0]] == scores[[j for j in range(4) if j != wrong]].max()
    torch.testing.assert_close(weight[wrong], x[0])
    torch.testing.assert_close(weight[rivals[0]], -x[0])
    assert (bias[wrong], bias[rivals[0]], bias.sum()) == pytest.approx((1, -1, 0))


@pytest.mark.parametrize("zero", [False, True], ids=["random weights", "zero weights"])
@pytest.mark.parametrize("target", [0, 1])
def test_with_two_classes_the_rule_adds_y_x_to_the_one_weight_vector(target, zero):
    x = torch.randn(1, 6)
    model = perceptron(2, zero)
    if not zero and int(model(x).argmax()) == target:
        weight, bias = (value.detach() for value in model.head.parameters())
        x = -x - 2 * bias * weight / weight.square().sum()  # on the other side of the plane w.x + b = 0
    weight, bias = one_step(model, x, torch.tensor([target]))
    y = 2 * target - 1
    torch.testing.assert_close(weight, y * x)
    torch.testing.assert_close(bias, torch.tensor([float(y)]))


def test_a_right_answer_changes_nothing():
    model, x = perceptron(4, zero=False), torch.randn(1, 6)
    weight, bias = one_step(model, x, model(x).argmax(1))
    assert not weight.any()
    assert not bias.any()


def test_the_perceptron_criterion_is_the_margin_by_which_the_target_loses():
    logits = torch.tensor([[1.0, 4.0, 2.5], [1.0, 4.0, 2.5], [1.0, 4.0, 2.5], [3.0, 3.0, 0.0]])
    assert perceptron_criterion(logits, torch.tensor([0, 1, 2, 0])).tolist() == [3, 0, 1.5, 0]


def test_rosenblatts_rule_separates_what_can_be_separated():
    features = torch.randn(60, 6)
    scores = features @ torch.randn(6, 4)
    best, second = scores.topk(2).values.T
    features, target = features[best > second + 1], scores.argmax(1)[best > second + 1]
    model = perceptron(4, zero=True)
    for _ in range(20):
        for x, y in zip(features.split(1), target.split(1), strict=True):
            one_step(model, x, y)
    assert len(target) > 20
    assert torch.equal(model(features).argmax(1), target)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_smoothing": 1.0}, r"label_smoothing 1.0 is not in \[0, 1\)"),
        ({"label_smoothing": 0.1, "loss": "perceptron"}, "needs loss cross_entropy"),
        ({"loss": "perceptrons"}, "one of cross_entropy, perceptron"),
    ],
    ids=["share", "smoothing of no probability", "name"],
)
def test_wrong_options_of_classification_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        objective("classification", CLASSES, **options)


def test_an_objective_refuses_data_of_the_other_kind():
    with pytest.raises(ValueError, match=r"two classes or more, not 1; set objective\.name=regression"):
        objective("classification", replace(QUANTITIES, num_classes=1))
    with pytest.raises(ValueError, match=r"4 classes: set objective\.name=classification"):
        objective("regression", CLASSES)


@pytest.mark.parametrize(
    ("name", "spec", "outputs", "target"),
    [
        ("classification", CLASSES, torch.zeros(3, 2), torch.zeros(3, dtype=torch.long)),
        ("classification", CLASSES, torch.zeros(3, 5, 4), torch.zeros(3, dtype=torch.long)),
        ("regression", QUANTITIES, torch.zeros(3, 1), torch.zeros(3, 2)),
        ("regression", QUANTITIES, torch.zeros(3), torch.zeros(3, 2)),
    ],
)
def test_outputs_of_the_wrong_shape_are_refused_instead_of_broadcast(name, spec, outputs, target):
    with pytest.raises(ValueError, match=r"set model\.num_classes=") as caught:
        objective(name, spec).loss(TRAIN, {"model": Given()}, {"features": outputs, "target": target}, CTX)
    assert str(tuple(outputs.shape)) in str(caught.value)


def quantities(count=50):
    target = torch.randn(count, 2) * torch.tensor([80.0, 0.5]) + torch.tensor([150.0, -3.0])
    mean, std = torch.tensor(QUANTITIES.target_mean), torch.tensor(QUANTITIES.target_std)
    outputs = (target - mean) / std + 0.3 * torch.randn(count, 2)
    return outputs, target, outputs * std + mean


def test_errors_of_a_regression_are_in_the_targets_own_unit():
    outputs, target, prediction = quantities()
    found = measure(objective("regression", QUANTITIES), outputs, target)
    expected = {
        "rmse": np.sqrt(sklearn_metrics.mean_squared_error(target, prediction, multioutput="raw_values")).mean(),
        "mae": sklearn_metrics.mean_absolute_error(target, prediction),
        "r2": sklearn_metrics.r2_score(target, prediction),
        "loss": float((outputs - (target - torch.tensor([150.0, -3.0])) / torch.tensor([80.0, 0.5])).square().mean()),
    }
    assert found == pytest.approx(expected, rel=1e-4)


def test_the_share_of_explained_variance_is_accurate_far_from_zero():
    spec = replace(QUANTITIES, num_classes=1, target_mean=(1e6,), target_std=(1.0,))
    noise = torch.randn(1000, 1, dtype=torch.float64)
    target = 1e6 + noise
    found = measure(objective("regression", spec), 0.5 * noise.float(), target)
    assert found["r2"] == pytest.approx(sklearn_metrics.r2_score(target, 1e6 + 0.5 * noise), abs=1e-4)


def test_a_target_that_never_varies_has_no_r2():
    spec = replace(QUANTITIES, num_classes=1, target_mean=(2.0,), target_std=(1.0,))
    found = measure(objective("regression", spec), torch.zeros(4, 1), torch.full((4, 1), 2.0))
    assert found == {"loss": 0, "rmse": 0, "mae": 0}


@pytest.mark.parametrize(("loss", "function"), [("mse", F.mse_loss), ("mae", F.l1_loss), ("huber", F.huber_loss)])
def test_a_regression_is_trained_on_standardised_targets(loss, function):
    outputs, target, _ = quantities()
    goal, batch = objective("regression", QUANTITIES, loss=loss), {"features": outputs, "target": target}
    total, count, weight = goal.loss(TRAIN, {"model": Given()}, batch, CTX).terms[loss]
    standardised = (target - torch.tensor([150.0, -3.0])) / torch.tensor([80.0, 0.5])
    assert (count, weight, goal.counts(TRAIN, batch, CTX)) == (100, 1.0, {loss: 100})
    torch.testing.assert_close(total / count, function(outputs, standardised))


@pytest.mark.parametrize(("name", "better"), [("classification", "accuracy"), ("regression", "rmse")])
def test_the_headline_says_what_better_means(name, better):
    found = OBJECTIVES.find(name)
    assert found.headline == better
    assert found.larger_is_better == (better == "accuracy")
