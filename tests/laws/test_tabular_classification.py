"""Laws of models for tables: rows of features in, logits out."""

import dataclasses

import pytest
import torch

from laws import architectures, each, perturbed

each_model = each(architectures("tabular-classification"))


@each_model
@pytest.mark.parametrize("num_classes", [1, 2, 3])
@pytest.mark.parametrize("in_features", [1, 4, 30])
def test_any_number_of_features_and_classes_fits(architecture, in_features, num_classes):
    model = perturbed(
        architecture, dataclasses.replace(architecture.tiny, in_features=in_features, num_classes=num_classes)
    )
    inputs = model.example_inputs(5)
    assert inputs["features"].shape == (5, in_features)
    assert model(**inputs).shape == (5, num_classes)


@each_model
def test_every_feature_counts(architecture):
    model = perturbed(architecture)
    features = model.example_inputs(8)["features"].requires_grad_()
    (model(features) * torch.randn(model.config.num_classes)).sum().backward()
    assert features.grad.abs().amax(0).all()
