"""Laws of everything that classifies images or videos."""

import dataclasses

import pytest
import torch

import zoo
from laws import build, classifiers, differ, each, perturbed

each_classifier = each(classifiers())


@each_classifier
def test_forward_is_the_head_on_the_features(architecture):
    model = perturbed(architecture)
    image = model.example_inputs(2)["image"]
    assert torch.equal(model(image), model.forward_head(model.forward_features(image)))


@each_classifier
def test_num_features_is_what_the_head_reads(architecture):
    model = perturbed(architecture)
    seen = []
    model.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(**model.example_inputs(2))
    assert seen[0].shape[:2] == (2, model.num_features)


@each_classifier
def test_reset_classifier_changes_the_head_alone(architecture):
    model = perturbed(architecture)
    image = model.example_inputs(2)["image"]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.reset_classifier(7)
    assert model.config == dataclasses.replace(architecture.tiny, num_classes=7)
    assert model(image).shape == (2, 7)
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert not [name for name in after if not name.startswith("head.") and not torch.equal(after[name], before[name])]


@each_classifier
def test_reset_classifier_draws_a_new_head_even_of_the_same_size(architecture):
    model = perturbed(architecture)
    image = model.example_inputs(2)["image"]
    before = model(image)
    model.reset_classifier(model.config.num_classes)
    assert differ(model(image), before)


@each_classifier
@pytest.mark.parametrize("in_channels", [1, 2, 3, 4, 13])
def test_any_number_of_channels_goes_in(architecture, in_channels):
    model = build(architecture, dataclasses.replace(architecture.tiny, in_channels=in_channels)).eval()
    image = model.example_inputs(2)["image"]
    assert image.shape[1] == in_channels
    assert model(image).isfinite().all()


@each_classifier
@pytest.mark.parametrize("in_channels", [1, 2, 4, 13])
def test_stored_weights_adapt_to_any_number_of_channels(architecture, in_channels, tmp_path):
    model = build(architecture, dataclasses.replace(architecture.tiny, in_channels=3))
    path = zoo.export_weights(model, tmp_path / "a.safetensors", format="zoo")
    fields = {name: value for name, value in vars(architecture.tiny).items() if name != "in_channels"}
    adapted = zoo.create(architecture.name, weights=path, in_channels=in_channels, **fields)
    (note,) = adapted.load_report.adapted
    assert f"adapted from 3 to {in_channels} channels" in note
    state = adapted.state_dict()
    changed = [name for name, tensor in model.state_dict().items() if state[name].shape != tensor.shape]
    assert changed == [note.split()[0]]
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items() if name not in changed)


@each_classifier
def test_stored_weights_take_another_head(architecture, tmp_path):
    model = build(architecture)
    path = zoo.export_weights(model, tmp_path / "a.safetensors", format="zoo")
    fields = {**vars(architecture.tiny), "num_classes": 9}
    adapted = zoo.create(architecture.name, weights=path, **fields)
    assert all(note.startswith("head") for note in adapted.load_report.adapted)
    assert adapted.eval()(model.example_inputs(2)["image"]).shape == (2, 9)


@each_classifier
def test_without_classes_the_model_gives_what_its_head_would_read(architecture):
    model = perturbed(architecture)
    image, seen = model.example_inputs(2)["image"], []
    model.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(image)
    headed = model.state_dict()
    model.reset_classifier(0)
    assert model.config.num_classes == 0
    features = model(image)
    assert features.shape == (2, model.num_features)
    assert torch.equal(features, seen[0].flatten(2).mean(-1) if seen[0].dim() > 2 else seen[0])
    assert headed.keys() - model.state_dict().keys() == {name for name in headed if name.startswith("head.")}
    model.reset_classifier(3)
    assert model(image).shape == (2, 3)


@each_classifier
def test_a_model_without_classes_is_built_and_reads_weights_with_a_head(architecture, tmp_path):
    model = perturbed(architecture)
    image = model.example_inputs(2)["image"]
    path = zoo.export_weights(model, tmp_path / "a.safetensors", format="zoo")
    fields = {**vars(architecture.tiny), "num_classes": 0}
    bare = zoo.create(architecture.name, weights=path, **fields).eval()
    assert set(bare.load_report.ignored) == {name for name in model.state_dict() if name.startswith("head.")}
    model.reset_classifier(0)
    assert torch.equal(bare(image), model(image))
    assert build(architecture, dataclasses.replace(architecture.tiny, num_classes=0)).train()(image).isfinite().all()


@each_classifier
def test_a_negative_number_of_classes_is_refused_by_name(architecture):
    with pytest.raises(ValueError, match="num_classes -1 is negative; 0 leaves the head out"):
        dataclasses.replace(architecture.tiny, num_classes=-1)


@each_classifier
def test_numbers_with_which_no_norm_computes_are_refused(architecture):
    wrong = {"norm_eps": (0.0, -1e-5, float("nan")), "norm_momentum": (-0.1, 1.1, float("nan"))}
    for name in wrong.keys() & vars(architecture.tiny).keys():
        for value in wrong[name]:
            with pytest.raises(ValueError, match=f"{name} {value} is not"):
                dataclasses.replace(architecture.tiny, **{name: value})


@each_classifier
@pytest.mark.parametrize("num_classes", ["3", 3.0, True, None])
def test_a_number_of_classes_that_is_none_is_refused(architecture, num_classes):
    model = perturbed(architecture)
    with pytest.raises(TypeError, match=f"num_classes must be a whole number, got {num_classes!r}"):
        model.reset_classifier(num_classes)
    assert model.config == architecture.tiny


@each_classifier
def test_an_image_that_is_no_tensor_is_refused(architecture):
    model = perturbed(architecture)
    with pytest.raises(TypeError, match=r"an image batch is a tensor \(batch, .* got ndarray; torch.from_numpy"):
        model(model.example_inputs(2)["image"].numpy())


@each_classifier
@pytest.mark.parametrize("dtype", [torch.float16, torch.float64], ids=str)
def test_an_image_of_another_precision_is_refused_unless_somebody_converts_it(architecture, dtype):
    model = perturbed(architecture)
    image = model.example_inputs(2)["image"].to(dtype)
    with pytest.raises(ValueError, match=rf"dtype of the weights, torch.float32, got {dtype}; image.to\(torch.float32"):
        model(image)
    with torch.autocast("cpu", torch.bfloat16):
        assert model(image.bfloat16()).isfinite().all()
    assert model.to(dtype)(image).dtype == dtype
