"""An exported file answers as the model does, for batches of any size."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from laws import architectures, build, classifiers, each, few, perturbed
from torch.utils._pytree import tree_leaves

import zoo
from zoo.pipelines import export as module
from zoo.pipelines.export import SUFFIXES, Inequal, export

IMAGES = classifiers()


def answers(path, format, inputs):
    if format == "torch":
        return tree_leaves(torch.export.load(path).module()(**inputs))
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return [torch.from_numpy(found) for found in session.run(None, {k: v.numpy() for k, v in inputs.items()})]


def check(model, path, format):
    export(model, path, format)
    for batch_size in (1, 4):
        inputs = model.example_inputs(batch_size)
        with torch.no_grad():
            expected = tree_leaves(model(**inputs))
        for found, truth in zip(answers(path, format, inputs), expected, strict=True):
            assert found.dtype == truth.dtype
            assert ((found.float() - truth.float()).abs().max() / truth.float().abs().max()).item() < 1e-4


@pytest.mark.parametrize("format", SUFFIXES)
@each(architectures())
def test_every_architecture_s_file_answers_as_it_does(architecture, format, tmp_path):
    check(perturbed(architecture), tmp_path / f"model{SUFFIXES[format]}", format)


@pytest.mark.parametrize("vision", ["vit", "text"])
@pytest.mark.parametrize("format", SUFFIXES)
def test_a_file_compares_any_number_of_images_with_any_other_of_texts(format, vision, tmp_path):
    record = next(record for record in architectures() if record.name == "clip")
    model = perturbed(record, dataclasses.replace(record.tiny, vision=vision))
    path = export(model, tmp_path / f"model{SUFFIXES[format]}", format)
    for images, texts in ((1, 5), (4, 1), (3, 3)):
        inputs = model.example_inputs(images) | {"tokens": model.example_inputs(texts)["tokens"]}
        with torch.no_grad():
            expected = tree_leaves(model(**inputs))
        assert expected[0].shape == (images, texts)
        torch.testing.assert_close(answers(path, format, inputs), expected, rtol=1e-4, atol=1e-5)


def test_a_file_names_no_class_of_this_package(tmp_path):
    model = build(next(record for record in architectures() if record.name == "mae")).eval()
    export(model, tmp_path / "model.pt2", "torch")
    inputs = model.example_inputs(2)
    assert type(torch.export.load(tmp_path / "model.pt2").module()(**inputs)) is tuple
    assert type(model(**inputs)) is not tuple, "the model itself still names its outputs"


@pytest.mark.slow
@each(few(IMAGES))
def test_the_smallest_preset_s_onnx_file_answers_as_it_does(architecture, tmp_path):
    smallest = min(architecture.params, key=lambda name: architecture.params[name])
    check(build(architecture, architecture.preset(smallest)).eval(), tmp_path / "model.onnx", "onnx")


def test_a_file_takes_images_as_the_weights_expect_them(tmp_path):
    model = zoo.create("resnet20.digits").eval()
    assert model.example_inputs(1)["image"].shape[-1] != 8
    image = zoo.transforms(model)(torch.randint(0, 256, (3, 1, 20, 16), dtype=torch.uint8))
    export(model, tmp_path / "model.onnx")
    with torch.no_grad():
        torch.testing.assert_close(answers(tmp_path / "model.onnx", "onnx", {"image": image})[0], model(image))


def test_a_file_takes_images_of_the_size_that_is_asked_for(tmp_path):
    model = perturbed(next(record for record in IMAGES if record.name == "resnet"))
    export(model, tmp_path / "model.pt2", "torch", image_size=24)
    assert answers(tmp_path / "model.pt2", "torch", {"image": torch.randn(2, 3, 24, 24)})[0].shape[0] == 2


def test_a_file_takes_clips_as_the_weights_expect_them(tmp_path):
    model = perturbed(next(record for record in IMAGES if record.name == "video_resnet"))
    zoo.weights.remember(model, preprocessing={"mean": [0.5], "std": [0.5], "image_size": 20, "frames": 6})
    export(model, tmp_path / "model.pt2", "torch")
    channels = model.config.in_channels
    assert answers(tmp_path / "model.pt2", "torch", {"image": torch.randn(1, channels, 6, 20, 20)})[0].shape[0] == 1


@pytest.mark.parametrize("readout", ["sum", "mean", "max"])
@pytest.mark.parametrize("format", ["torch", pytest.param("onnx", marks=pytest.mark.slow)])
def test_a_file_answers_for_graphs_of_any_size_and_number(format, readout, tmp_path):
    record = next(record for record in architectures() if record.name == "gcn")
    model = perturbed(record, dataclasses.replace(record.tiny, readout=readout))
    path = export(model, tmp_path / f"model{SUFFIXES[format]}", format)
    for sizes, num_edges in (((3, 9, 1, 4), 31), ((1, 1), 0), ((7,), 1), ((), 0)):
        graph = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes, dtype=torch.int64))
        nodes, edges = torch.randn(len(graph), 5), torch.randint(max(1, len(graph)), (2, num_edges))
        inputs = {"nodes": nodes, "edges": edges, "graph": graph}
        with torch.no_grad():
            torch.testing.assert_close(answers(path, format, inputs)[0], model(**inputs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("clip.digits", {"image": ["image_batch", 1, 8, 8], "tokens": ["tokens_batch", 27]}),
        ("gcn_cora", {"nodes": ["num_nodes", 1433], "edges": [2, "num_edges"]}),
        ("gin_mutag", {"nodes": ["num_nodes", 7], "edges": [2, "num_edges"], "graph": ["num_nodes"]}),
    ],
)
def test_the_command_names_the_axes_that_are_open(run, tmp_path, name, inputs):
    facts = json.loads(run("export", name, "--out", tmp_path / "a.pt2", "--format", "torch", "--json"))
    assert facts["inputs"] == inputs


def test_the_model_keeps_its_mode_and_its_weights(tmp_path):
    model = build(IMAGES[0]).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    export(model, tmp_path / "model.pt2", "torch")
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_file_with_other_answers_is_not_written(tmp_path, monkeypatch):
    (tmp_path / "model.pt2").write_bytes(b"the one before")
    monkeypatch.setattr(module, "_run_torch", lambda path, inputs: [torch.zeros(3, 5)])
    with pytest.raises(Inequal, match=r"its answers differ from the model's by .* not written"):
        export(build(IMAGES[0]), tmp_path / "model.pt2", "torch")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("model.pt2", b"the one before")]


def test_the_suffix_says_what_a_file_is(tmp_path):
    with pytest.raises(ValueError, match=r"a file of format onnx ends in \.onnx; rename it"):
        export(build(IMAGES[0]), tmp_path / "model.pt2", "onnx")


def test_the_command_says_what_the_file_takes(run, tmp_path):
    out = tmp_path / "digits.onnx"
    facts = json.loads(run("export", "resnet20.digits", "--out", out, "--json"))
    assert facts == {
        "out": str(out), "format": "onnx", "bytes": out.stat().st_size, "inputs": {"image": ["batch", 1, 8, 8]},
    }  # fmt: skip
    image = np.zeros((1, 1, 8, 8), dtype=np.float32)
    truth = zoo.create("resnet20.digits").eval()(torch.from_numpy(image))
    (found,) = answers(out, "onnx", {"image": torch.from_numpy(image)})
    torch.testing.assert_close(found, truth)
