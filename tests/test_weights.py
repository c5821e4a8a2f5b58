"""A model survives its folder bit for bit; what was damaged, forged or does not fit is refused by name."""

import json
import os
import random
import stat
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from toy_zoo import Toy, ToyConfig, edit_config, same_state, sign

import zoo
from zoo import weights
from zoo.config import ConfigError, UnknownOption
from zoo.registry import UnknownName
from zoo.storage import DamagedFile
from zoo.weights.fit import MismatchError

ROOT = Path(__file__).parents[1]


pytestmark = pytest.mark.usefixtures("toy")


@pytest.fixture
def model():
    model = zoo.create("toy_wide", num_classes=6)
    model.norm.running_mean.normal_()
    model.norm.num_batches_tracked.fill_(9)
    return model


@pytest.fixture
def folder(model, tmp_path):
    return zoo.save(model, tmp_path / "pets")


def test_a_model_comes_back_bit_for_bit(model, folder):
    again = zoo.load(folder)
    assert same_state(model, again)
    assert again.config == model.config
    assert again.provenance == model.provenance
    assert again.training
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors", "zoo.json"]


def test_config_json_holds_what_the_design_says(model, folder):
    weights.remember(model, labels=tuple("abcdef"), preprocessing={"mean": (0.5,), "std": (0.25,)}, tokenizer=None)
    data = json.loads((zoo.save(model, folder) / "config.json").read_text())
    assert data == {
        "format": 1, "library_name": "zoo", "library_version": zoo.__version__, "architecture": "toy",
        "preset": "toy_wide", "tag": None, "labels": list("abcdef"), "tokenizer": None,
        "preprocessing": {"mean": [0.5], "std": [0.25]},
        "config": {"width": 8, "depth": 2, "in_channels": 3, "num_classes": 6, "tied": True, "positions": 7,
                   "eps": 1e-5},
    }  # fmt: skip
    assert zoo.load(folder).provenance == model.provenance


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"label": ()}, "provenance of Toy: unknown option 'label'; did you mean labels"),
        ({"labels": (1,)}, "labels must"),
    ],
    ids=["unknown", "no text"],
)
def test_only_what_can_be_saved_is_remembered(model, facts, message):
    with pytest.raises(ConfigError, match=message):
        weights.remember(model, **facts)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_the_dtype_is_kept(model, tmp_path, dtype):
    assert same_state(model.to(dtype), zoo.load(zoo.save(model, tmp_path / "a")))


def test_a_tied_matrix_is_stored_once_and_tied_again(model, folder):
    names = set(load_file(folder / "model.safetensors"))
    assert ("blocks.0.weight" in names) != ("blocks.1.weight" in names)
    again = zoo.load(folder)
    assert again.blocks[0].weight is again.blocks[1].weight
    with torch.no_grad():
        again.blocks[0].weight.add_(1)
    assert torch.equal(again.blocks[1].weight, model.blocks[0].weight + 1)


def test_what_is_frozen_stays_frozen(folder):
    again = zoo.load(folder)
    assert not again.scale.requires_grad
    assert again.stem.weight.requires_grad


@pytest.mark.parametrize("parts", [(0, 1), (0, 0)], ids=["neighbours", "the same"])
def test_tensors_that_only_share_memory_are_stored_apart(tmp_path, parts):
    model, memory = zoo.create("toy", tied=False), torch.randn(2, 4, 4)
    for block, part in zip(model.blocks, parts, strict=True):
        block.weight.data = memory[part]
    again = zoo.load(zoo.save(model, tmp_path / "a"))
    assert same_state(model, again)
    assert again.blocks[0].weight is not again.blocks[1].weight


def test_a_model_built_by_hand_is_saved_by_its_class(tmp_path):
    for config, preset in ((ToyConfig(width=8), "toy_wide"), (ToyConfig(width=3), "toy")):
        model = Toy(config)
        model.init_weights()
        again = zoo.load(zoo.save(model, tmp_path / preset))
        assert same_state(model, again)
        assert (again.config, again.provenance.preset) == (config, preset)


def test_the_loaded_model_does_not_depend_on_its_file(model, folder):
    again = zoo.load(folder)
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(0)
    assert same_state(model, again)


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002], ids=oct)
def test_files_have_the_mode_that_the_umask_gives(model, tmp_path, mask):
    before = os.umask(mask)
    try:
        folder = zoo.save(model, tmp_path / "a")
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o666 & ~mask}


def test_a_large_model_lies_in_several_files(model, tmp_path):
    folder = zoo.save(model, tmp_path / "a", shard_bytes=400)
    files = sorted(path.name for path in folder.glob("*.safetensors"))
    assert len(files) > 2
    assert files[0] == f"model-00001-of-{len(files):05}.safetensors"
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    assert sorted(set(index["weight_map"].values())) == files
    assert index["metadata"]["total_size"] == sum(t.nbytes for f in files for t in load_file(folder / f).values())
    assert same_state(model, zoo.load(folder))
    zoo.save(model, folder)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors", "zoo.json"]


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file())


@pytest.fixture(params=[5 * 10**9, 400], ids=["one file", "several files"])
def either(request, model, tmp_path):
    return zoo.save(model, tmp_path / "either", shard_bytes=request.param)


def test_every_flipped_bit_is_noticed(either):
    rng = random.Random(0)
    for path in files_of(either):
        whole = path.read_bytes()
        for place in [0, 7, 8, len(whole) - 1, *(rng.randrange(len(whole)) for _ in range(40))]:
            damaged = bytearray(whole)
            damaged[place] ^= 1 << rng.randrange(8)
            path.write_bytes(damaged)
            with pytest.raises(DamagedFile) as caught:
                zoo.load(either)
            assert str(either) in str(caught.value)
            assert "\n" not in str(caught.value)
        path.write_bytes(whole)
    zoo.load(either)


@pytest.mark.parametrize("verify", [True, False], ids=["verified", "not verified"])
def test_every_cut_is_noticed(either, verify):
    for path in files_of(either):
        whole = path.read_bytes()
        if path.name == "zoo.json" and not verify:
            continue
        for length in sorted({0, 1, 7, 8, 9, len(whole) // 2, len(whole) - 2}):
            path.write_bytes(whole[:length])
            with pytest.raises(DamagedFile, match=path.name):
                zoo.load(either, verify=verify)
        path.unlink()
        with pytest.raises(DamagedFile):
            zoo.load(either, verify=verify)
        path.write_bytes(whole)


def test_without_verifying_a_flipped_weight_goes_unnoticed(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x42")
    zoo.load(folder, verify=False)
    with pytest.raises(DamagedFile, match="sha256"):
        zoo.load(folder)


@pytest.mark.parametrize("name", ["../pets/config.json", "/etc/hostname", "a/../../x"])
def test_a_manifest_speaks_of_its_own_folder_only(folder, name):
    manifest = json.loads((folder / "zoo.json").read_text())
    manifest["files"][name] = manifest["files"]["config.json"]
    (folder / "zoo.json").write_text(json.dumps(manifest))
    with pytest.raises(DamagedFile, match="outside"):
        zoo.load(folder)


@pytest.mark.parametrize("verify", [True, False])
def test_links_are_not_followed(folder, tmp_path, verify):
    (folder / "model.safetensors").rename(tmp_path / "elsewhere")
    (folder / "model.safetensors").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DamagedFile, match=r"model\.safetensors: missing,"):
        zoo.load(folder, verify=verify)


def test_a_file_that_the_manifest_does_not_list_is_not_loaded(folder):
    manifest = json.loads((folder / "zoo.json").read_text())
    del manifest["files"]["model.safetensors"]
    (folder / "zoo.json").write_text(json.dumps(manifest))
    with pytest.raises(DamagedFile, match="not listed"):
        zoo.load(folder)


@pytest.mark.parametrize("file", ["../../etc/passwd", "/etc/passwd", "config.json/../x", 3, None])
def test_an_index_names_model_files_only(model, tmp_path, file):
    folder = zoo.save(model, tmp_path / "a", shard_bytes=400)
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"]["stem.weight"] = file
    path.write_text(json.dumps(index))
    sign(folder)
    with pytest.raises(DamagedFile, match="names files that no model has"):
        zoo.load(folder)


def test_an_index_that_disagrees_with_its_files_is_damage(model, tmp_path):
    folder = zoo.save(model, tmp_path / "a", shard_bytes=400)
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"]["more"] = index["weight_map"]["stem.weight"]
    path.write_text(json.dumps(index))
    sign(folder)
    with pytest.raises(DamagedFile, match="other tensors"):
        zoo.load(folder)


def test_a_place_without_a_model_is_not_found(tmp_path):
    for place in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(FileNotFoundError, match="no model lies there"):
            zoo.load(place)


def test_a_run_s_folder_stands_for_its_model(model, tmp_path):
    zoo.save(model, tmp_path / "run" / "model")
    assert same_state(model, zoo.load(tmp_path / "run"))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"config": {"widht": 3}}, UnknownOption, "unknown option 'widht'; did you mean width?"),
        ({"config": {"width": "8"}}, ConfigError, "width must be a whole number"),
        ({"config": {"auto_map": "evil.py"}}, UnknownOption, "unknown option 'auto_map'"),
        ({"trust_remote_code": True}, UnknownOption, "unknown option 'trust_remote_code'"),
        ({"architecture": "toi"}, UnknownName, "unknown architecture 'toi'; did you mean toy.*plugin"),
        ({"architecture": ["toy"]}, ConfigError, "architecture must be text"),
        ({"format": 2}, ConfigError, "has format 2, this zoo reads up to 1; upgrade zoo"),
        ({"format": None}, ConfigError, "has format None"),
        ({"labels": "abc"}, ConfigError, "labels must be a list"),
        ({"config": {"width": 10**9}}, MismatchError, r"does not fit Toy"),
        ({"config": {"depth": 10**9}}, DamagedFile, "far more tensors"),
        ({"config": {"positions": 10**12}}, DamagedFile, "4000000000000 bytes"),
        ({"config": {"width": 2**62}}, ConfigError, "cannot be built like this"),
        ({"config": {"width": -1}}, ConfigError, "cannot be built like this"),
    ],
    ids=lambda value: str(value)[:50] if isinstance(value, dict) else "",
)
def test_a_forged_config_is_refused_before_it_costs_anything(folder, changes, error, message):
    edit_config(folder, **changes)
    with pytest.raises(error, match=message) as caught:
        zoo.load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "[]", "{", "[" * 10**5, '{"a":' * 10**5, "{}" + " " * 5 * 2**20], ids=lambda t: t[:6]
)
def test_a_config_that_is_no_small_json_object_is_damage(folder, text):
    (folder / "config.json").write_text(text)
    sign(folder)
    with pytest.raises(DamagedFile, match=r"config\.json: missing, or no JSON object"):
        zoo.load(folder)


def test_another_library_s_folder_is_told_apart(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert", "architectures": ["BertModel"]}')
    with pytest.raises(ConfigError, match=r"was not written by zoo\.save"):
        zoo.load(tmp_path)


def test_an_older_format_is_upgraded(model, folder, monkeypatch):
    def rename(data):
        return {**data, "format": 1, "architecture": data["family"]} | {"family": None}

    monkeypatch.setattr(weights, "UPGRADES", {0: lambda data: {k: v for k, v in rename(data).items() if k != "family"}})
    edit_config(folder, format=0, family="toy", architecture="ignored")
    assert same_state(model, zoo.load(folder))
