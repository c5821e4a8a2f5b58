"""Two classes are Rosenblatt's model, whatever reads the logits."""

import pytest
import torch
import torch.nn.functional as F
from laws import build

from zoo.architectures.perceptron import ARCHITECTURE, PerceptronConfig


@pytest.fixture
def binary():
    model = build(ARCHITECTURE, PerceptronConfig(in_features=5, num_classes=2))
    features, target = torch.randn(64, 5), torch.randint(2, (64,))
    s = features @ model.head.weight[0] + model.head.bias
    return model(features), target, s, 2 * target - 1


def test_two_classes_share_one_weight_vector():
    model = build(ARCHITECTURE, PerceptronConfig(in_features=5, num_classes=2))
    assert model.head.weight.shape == (1, 5)


def test_the_larger_logit_is_the_sign_of_the_score(binary):
    logits, _, s, _ = binary
    assert torch.equal(logits.argmax(1), (s > 0).long())


def test_cross_entropy_is_the_logistic_loss(binary):
    logits, target, s, y = binary
    torch.testing.assert_close(F.cross_entropy(logits, target, reduction="none"), F.softplus(-y * s))


def test_the_multi_class_criterion_is_rosenblatt_s(binary):
    logits, target, s, y = binary
    right, wrong = logits.gather(1, target[:, None])[:, 0], logits.gather(1, 1 - target[:, None])[:, 0]
    torch.testing.assert_close((wrong - right).relu(), (-y * s).relu())


def test_an_empty_layer_is_refused():
    with pytest.raises(ValueError, match="in_features 0"):
        PerceptronConfig(in_features=0)
