"""What `zoo.create` and its neighbours promise: names in, models, configs, records and lists out."""

import dataclasses
import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from toy_zoo import ToyConfig, architecture, registered, same_state

import zoo
from zoo.config import ConfigError, UnknownOption
from zoo.registry import ARCHITECTURES, UnknownName
from zoo.storage import DamagedFile
from zoo.weights import cards
from zoo.weights.fit import MismatchError

ROOT = Path(__file__).parents[1]
ALIASES = {"acme/toy": "toy_wide", "toy_best": "toy_wide.pets"}


@pytest.fixture(autouse=True)
def toy():
    with registered(architecture(aliases=ALIASES)):
        yield


@pytest.fixture
def pretrained(tmp_path, monkeypatch):
    """Cards for the toy: `pets`, the default, is bundled; `far` lies elsewhere; gives the bundled model."""
    monkeypatch.setattr(cards, "CARDS", tmp_path / "cards")
    monkeypatch.setattr(cards, "PRETRAINED", tmp_path / "pretrained")
    model = zoo.create("toy_wide", num_classes=2)
    zoo.weights.remember(
        model, tag="pets", labels=("cat", "dog"), preprocessing={"mean": (0.5,) * 3, "std": (0.2,) * 3}
    )
    zoo.save(model, tmp_path / "pretrained" / "toy_wide.pets")
    (tmp_path / "cards").mkdir()
    (tmp_path / "cards" / "toy.yaml").write_text("""
toy_wide:
  far: {source: {repo: acme/toy, revision: abc}, config: {eps: 1e-3, num_classes: 7}, license: cc-by-nc-4.0,
        commercial: false, labels: [a, b, c, d, e, f, g], preprocessing: {mean: [0.1, 0.2, 0.3], std: [1, 1, 1]}}
  pets: {source: {bundled: toy_wide.pets}, license: apache-2.0, commercial: true, default: true, metrics: {accuracy: 1}}
""")
    return model


def test_a_name_gives_a_module_in_train_mode_with_its_config():
    model = zoo.create("toy_wide")
    assert isinstance(model, nn.Module)
    assert model.training
    assert model.config == ToyConfig(width=8)
    assert not hasattr(model, "load_report")


def test_every_field_is_a_keyword():
    for field in dataclasses.fields(ToyConfig):
        value = {"tied": False, "eps": 0.5}.get(field.name, 6)
        assert getattr(zoo.create("toy", **{field.name: value}).config, field.name) == value


def test_the_seed_decides_the_weights():
    def state(seed):
        torch.manual_seed(seed)
        return zoo.create("toy")

    assert same_state(state(1), state(1))
    assert not same_state(state(1), state(2))


def test_every_weight_is_set_and_ties_hold():
    model = zoo.create("toy")
    assert model.blocks[0].weight is model.blocks[1].weight
    assert torch.equal(model.table, torch.arange(7.0))
    assert torch.equal(model.norm.running_var, torch.ones(4))
    assert not model.scale.requires_grad


def test_on_the_meta_device_there_is_nothing_but_shapes():
    model = zoo.create("toy", width=10**6, device="meta")
    assert all(tensor.is_meta for tensor in [*model.parameters(), *model.buffers()])


def test_the_dtype_is_that_of_all_numbers_but_counters():
    model = zoo.create("toy", dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert model.norm.num_batches_tracked.dtype == torch.int64


def test_a_config_instance_is_built_as_it_is(tmp_path):
    instance = zoo.config("toy_wide", depth=3)
    assert instance == ToyConfig(width=8, depth=3)
    assert zoo.create(instance).config is not zoo.config("toy")
    assert zoo.create(instance).config == instance
    assert zoo.create(instance, num_classes=9).config == dataclasses.replace(instance, num_classes=9)
    assert zoo.create(zoo.config("toy_wide")).provenance.preset == "toy_wide"


def test_a_config_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        zoo.config("toy").width = 3


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: zoo.create("toi"), UnknownName, "unknown model 'toi'; did you mean toy"),
        (
            lambda: zoo.create("toy", num_clases=3),
            UnknownOption,
            "toy: unknown option 'num_clases'; did you mean num_cl",
        ),
        (lambda: zoo.create("toy", pretraned=True), UnknownOption, "did you mean pretrained"),
        (lambda: zoo.create("toy", wieghts="x"), UnknownOption, "did you mean weights"),
        (lambda: zoo.config("toy", num_clases=3), UnknownOption, "did you mean num_classes"),
        (lambda: zoo.create("toy", num_classes="3"), ConfigError, "toy: num_classes must be a whole number, got '3'"),
        (lambda: zoo.create("toy", width=-1), ConfigError, "toy: cannot be built like this"),
        (lambda: zoo.create("toy", device="cudda"), ValueError, "device='cudda' is no device; give cpu"),
        (lambda: zoo.create(3), TypeError, "expected a model's name or an instance of its config, got 3"),
        (lambda: zoo.create(None), TypeError, "got None"),
        (lambda: zoo.create("toy", dtype="bf16"), TypeError, "dtype must be a floating-point torch.dtype .*got 'bf16'"),
        (lambda: zoo.create("toy", dtype=torch.int8), TypeError, "got torch.int8"),
        (lambda: zoo.list_models(task=5), TypeError, "task must be text, got 5"),
        (lambda: zoo.list_models(license=5), TypeError, "license must be text, got 5"),
        (lambda: zoo.save("dir", zoo.create("toy")), TypeError, "expected a model and a folder, got str and Toy"),
        (lambda: zoo.create(str(ROOT)), UnknownName, "for the folder of that name say local-dir:"),
        (lambda: zoo.create("toy", weights=5), TypeError, "weights must be the path .*got int"),
        (lambda: zoo.create("toy", weights={}), TypeError, "got dict; see load_state_dict"),
        (lambda: zoo.load(zoo.create("toy"), "x"), TypeError, "expected the path of a folder, got Toy"),
        (lambda: zoo.load(3), TypeError, "expected the path of a folder, got int"),
        (lambda: zoo.list_models(5), TypeError, "pattern must be text, got 5"),
        (lambda: zoo.RunConfig.of([]), ConfigError, r"config: expected sections such as model and data, got \[\]"),
        (lambda: zoo.Trainer({}), TypeError, "expected a RunConfig, got dict; RunConfig.of"),
        (lambda: zoo.create("toy", pretrained=True, weights="x"), ValueError, "leave one of them out"),
        (lambda: zoo.create(ToyConfig(), pretrained=True), ValueError, "leave one of them out"),
        (lambda: zoo.create("toy", pretrained=True), UnknownName, "toy has no pretrained weights; "),
        (lambda: zoo.create("toy.pets"), UnknownName, "toy has no pretrained weights 'pets'; "),
        (lambda: zoo.create("hf-hub:me/pets@v1"), ValueError, "'hf-hub:me/pets@v1': .*nothing from the Hub.*local-dir"),
        (lambda: zoo.create("toy", weights="hf-hub:me/pets"), ValueError, "nothing from the Hub"),
        (lambda: zoo.create("local-dir:/no/where"), FileNotFoundError, "no model lies there"),
        (lambda: zoo.create("toy", weights="/no/where.safetensors"), FileNotFoundError, "No such file"),
        (lambda: zoo.list_models(task="image-clasification"), ValueError, "did you mean image-classification"),
        (lambda: zoo.list_models(task="zzz"), ValueError, "unknown task 'zzz'; known: .*text-generation"),
        (lambda: zoo.describe("toi"), UnknownName, "did you mean toy"),
        (lambda: zoo.nothing, AttributeError, "has no attribute 'nothing'"),
    ],
)
def test_a_wrong_request_is_one_line_with_the_remedy(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_pickle_is_refused(tmp_path):
    torch.save({}, tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"model\.pt: only \.safetensors files .*run code"):
        zoo.create("toy", weights=tmp_path / "model.pt")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("toy_wide.pets", {}), ("toy_wide.pets", {"pretrained": True}), ("TOY-Wide.Pets", {}), ("toy_best", {}),
        ("toy_wide", {"pretrained": True}), ("acme/toy", {"pretrained": True}), ("acme/toy.pets", {}),
    ],
    ids=str,
)  # fmt: skip
def test_naming_a_tag_loads_it(pretrained, name, options):
    model = zoo.create(name, **options)
    assert same_state(model, pretrained)
    assert (model.provenance.preset, model.provenance.tag) == ("toy_wide", "pets")
    assert model.provenance.labels == ("cat", "dog")
    assert model.load_report.loaded > 5


def test_not_pretrained_means_the_tag_s_config_and_random_weights(pretrained):
    model = zoo.create("toy_wide.pets", pretrained=False)
    assert model.config == pretrained.config
    assert not same_state(model, pretrained)
    assert (model.provenance.tag, model.provenance.labels, model.provenance.preprocessing) == (None, (), None)
    assert zoo.create("toy_wide.far", pretrained=False).config == ToyConfig(width=8, eps=1e-3, num_classes=7)
    assert zoo.config("toy_wide.far", num_classes=3) == ToyConfig(width=8, eps=1e-3, num_classes=3)
    assert zoo.create("toy_wide").config == ToyConfig(width=8)


def test_the_user_s_words_win_over_the_tag_s(pretrained):
    model = zoo.create("toy_wide.pets", num_classes=5, in_channels=1)
    assert (model.config.num_classes, model.config.in_channels) == (5, 1)
    assert (model.provenance.labels, model.provenance.preprocessing) == ((), None)
    assert len(model.load_report.adapted) == 3


def test_a_repository_names_what_lies_here(pretrained):
    with pytest.raises(ValueError, match=r"bundled with zoo are toy_wide\.pets"):
        zoo.create("hf-hub:acme/toy")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("toy_wide.pats", "toy_wide has no pretrained weights 'pats'; did you mean pets"),
        ("toy_wide.zzz", "toy_wide has no pretrained weights 'zzz'; it has far, pets"),
        ("toy.pets", r"toy has no pretrained weights 'pets'; bundled with zoo are toy_wide\.pets"),
    ],
)
def test_an_unknown_tag_is_answered_with_those_there_are(pretrained, name, message):
    with pytest.raises(UnknownName, match=message):
        zoo.create(name)


def test_a_card_with_an_unknown_field_is_an_error_that_names_it(pretrained, tmp_path):
    path = tmp_path / "cards" / "toy.yaml"
    path.write_text("toy_wide: {pets: {sorce: {bundled: a}}}")
    cards._read.cache_clear()
    with pytest.raises(UnknownOption, match=r"toy\.yaml: toy_wide\.pets: unknown option 'sorce'; did you mean source"):
        zoo.create("toy_wide.pets")
    path.write_text("- pets")
    cards._read.cache_clear()
    with pytest.raises(ConfigError, match="expected preset -> tag -> fields"):
        zoo.list_models(tags=True)


def test_weights_lie_in_a_file_or_a_folder(pretrained, tmp_path):
    folder = tmp_path / "pretrained" / "toy_wide.pets"
    for name, weights in [("toy_wide", folder), ("toy_wide", f"local-dir:{folder}"), (pretrained.config, folder)]:
        assert same_state(zoo.create(name, weights=weights), pretrained)
    file = str(folder / "model.safetensors")
    assert same_state(zoo.create("toy_wide", num_classes=2, weights=file), pretrained)
    assert same_state(zoo.create("toy_wide.pets", pretrained=False, weights=file), pretrained)
    assert same_state(zoo.create(f"local-dir:{folder}"), pretrained)
    assert zoo.config(f"local-dir:{folder}") == pretrained.config


def test_a_folder_of_another_model_is_refused(pretrained, tmp_path):
    folder = tmp_path / "pretrained" / "toy_wide.pets"
    with pytest.raises(MismatchError, match=r"holds a toy_wide, not a toy; use local-dir:.* as the name"):
        zoo.create("toy", weights=folder)
    with pytest.raises(MismatchError, match="holds a toy_wide, not a resnet20"):
        zoo.create("resnet20", weights=folder)


def test_stored_weights_have_no_place_on_meta(pretrained):
    with pytest.raises(ValueError, match="meta device holds no weights"):
        zoo.create("toy_wide.pets", device="meta")


def test_verify_false_skips_the_hashes(pretrained, tmp_path):
    path = tmp_path / "pretrained" / "toy_wide.pets" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x42")
    with pytest.raises(DamagedFile):
        zoo.create("toy_wide.pets")
    zoo.create("toy_wide.pets", verify=False)


def test_lists_are_sorted_and_match_as_shells_do(pretrained):
    names = zoo.list_models()
    assert names == sorted(names)
    assert {"resnet18", "resnet", "toy", "toy_wide"} <= set(names)
    assert zoo.list_models("toy*") == zoo.list_models("TOY*") == ["toy", "toy_wide"]
    assert zoo.list_models("toy-w?de") == zoo.list_models("*[v-x]ide") == ["toy_wide"]
    assert zoo.list_models("nothing*") == []
    assert "resnet18" in zoo.list_models(task="image-classification")
    assert "resnet18" not in zoo.list_models(task="text-generation")


def test_lists_know_of_weights_and_licences(pretrained):
    assert zoo.list_models("toy*", pretrained=True) == ["toy_wide"]
    assert zoo.list_models("toy*", pretrained=False) == ["toy"]
    assert zoo.list_models("toy*", tags=True) == ["toy_wide.far", "toy_wide.pets"]
    assert zoo.list_models("*.pets", tags=True) == ["toy_wide.pets"]
    assert zoo.list_models("toy*", tags=True, license="commercial-ok") == ["toy_wide.pets"]
    assert zoo.list_models("toy*", tags=True, license="CC-BY-NC-4.0") == ["toy_wide.far"]
    assert zoo.list_models("toy*", license="commercial-ok") == ["toy_wide"]
    assert zoo.list_models("toy*", license="mit") == []


@pytest.mark.parametrize("name", [name for record in ARCHITECTURES.records().values() for name in record.names()])
def test_every_preset_is_described(name):
    record = zoo.describe(name)
    assert record.config == zoo.config(name)
    assert record.num_params == ARCHITECTURES.find(name).params.get(name, record.num_params) > 0
    assert (record.preset, record.tag) == (name, None)


def test_a_description_holds_the_record_and_the_weights(pretrained):
    record = zoo.describe("acme/toy")
    assert (record.name, record.architecture, record.preset) == ("acme/toy", "toy", "toy_wide")
    assert (record.task, record.paper) == ("image-classification", "https://example.org/toy")
    assert [weights.tag for weights in record.weights] == ["far", "pets"]
    assert record.weights[1].metrics == {"accuracy": 1.0}
    assert zoo.describe("toy_wide.far").config.eps == 1e-3
    with pytest.raises(dataclasses.FrozenInstanceError):
        record.name = "x"


def test_models_can_be_pickled_with_what_they_remember(pretrained):
    again = pickle.loads(pickle.dumps(zoo.create("toy_wide.pets")))
    assert same_state(again, pretrained)
    assert again.provenance.labels == ("cat", "dog")


def test_every_public_name_is_there_and_documented():
    assert set(zoo.__all__) == {"__version__", "kernels", *zoo._HOMES}
    for name in ("kernels", *zoo._HOMES):
        assert getattr(zoo, name).__doc__, name
        assert name in dir(zoo)


def modules_after(program: str) -> set[str]:
    """The modules that a fresh interpreter has imported after a program."""
    program = (
        f"import json, sys, warnings; warnings.simplefilter('error')\n{program}\nprint(json.dumps([*sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_importing_zoo_imports_nothing_else():
    loaded = modules_after("import zoo")
    assert {name for name in loaded if name.split(".")[0] == "zoo"} == {"zoo", "zoo.version"}
    assert not loaded & {"torch", "numpy", "typer", "yaml", "pydantic", "catalogue", "safetensors"}


def test_listing_models_imports_nothing_slow_but_torch():
    loaded = modules_after("import zoo; zoo.list_models(task='image-classification')")
    assert "torch" in loaded
    assert not loaded & {
        "torchvision",
        "sklearn",
        "matplotlib",
        "pydantic",
        "typer",
        "huggingface_hub",
        "torch._dynamo",
    }
    assert not {name for name in loaded if name.startswith("zoo.training")}


def test_importing_the_factory_touches_no_architecture_and_no_plugin():
    loaded = modules_after("import zoo.factory, zoo.weights, zoo.registry")
    assert "zoo.architectures" not in loaded
