"""Weights that a card names are fetched once, checked, and then need no network."""

import hashlib
import json
import shutil
import warnings

import pytest
import torch
from hub_server import COMMIT, serving
from safetensors.torch import save
from toy_zoo import same_state

import zoo
from zoo.storage import DamagedFile
from zoo.weights import cards

pytestmark = pytest.mark.usefixtures("toy")


@pytest.fixture
def model():
    return zoo.create("toy_wide", num_classes=2)


@pytest.fixture
def published(model, tmp_path, monkeypatch):
    """Cards for the toy's weights in a repository; gives the repository's files, which may be changed."""
    data = save({name: tensor.clone() for name, tensor in model.state_dict().items()})
    digest = hashlib.sha256(data).hexdigest()
    monkeypatch.setattr(cards, "CARDS", tmp_path / "cards")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cards").mkdir()
    (tmp_path / "cards" / "toy.yaml").write_text(f"""
toy_wide:
  pets: {{source: {{repo: acme/toy, revision: main, file: model.safetensors, sha256: {digest}}},
         config: {{num_classes: 2}}, labels: [cat, dog], default: true,
         preprocessing: {{mean: [0.5, 0.5, 0.5], std: [1, 1, 1], image_size: 8}}}}
  loose: {{source: {{repo: acme/toy, file: model.safetensors, pinned: false}}, config: {{num_classes: 2}}}}
""")
    return {"acme/toy/model.safetensors": data}


def test_pretrained_weights_come_from_the_hub_once(model, published):
    with serving(published) as (endpoint, asked):
        first = zoo.create("toy_wide", pretrained=True, endpoint=endpoint)
        assert asked[-1] == "GET acme/toy/model.safetensors@" + asked[-1].split("@")[1]
        fetched = len(asked)
        again = zoo.create("toy_wide.pets", endpoint=endpoint)
        assert len(asked) == fetched
    offline = zoo.create("toy_wide.pets", endpoint="http://127.0.0.1:9")
    assert all(same_state(model, found) for found in (first, again, offline))
    assert first.provenance.labels == ("cat", "dog")
    assert zoo.transforms(first)(torch.zeros(3, 9, 9, dtype=torch.uint8)).shape == (3, 8, 8)


def test_weights_without_a_checksum_say_so(model, published):
    says = pytest.warns(UserWarning, match=r"toy_wide\.loose: its card knows no checksum")
    with serving(published) as (endpoint, _), says:
        assert same_state(model, zoo.create("toy_wide.loose", endpoint=endpoint))


def test_other_bytes_than_the_card_s_are_refused(published):
    published["acme/toy/model.safetensors"] = published["acme/toy/model.safetensors"][:-1] + b"\1"
    with serving(published) as (endpoint, _):
        with pytest.raises(DamagedFile, match=r"model\.safetensors: its sha256 differs from the card's; delete it"):
            zoo.create("toy_wide.pets", endpoint=endpoint)
        zoo.create("toy_wide.pets", endpoint=endpoint, verify=False)


@pytest.mark.parametrize("place", ["", "transformer/"])
def test_weights_of_diffusers_in_several_files_are_fetched_from_the_subfolder_of_one_commit(
    model, published, tmp_path, place
):
    stem = "diffusion_pytorch_model"
    names = [f"{stem}-0000{part}-of-00002.safetensors" for part in (1, 2)]
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    places = {name: names[index % 2] for index, name in enumerate(tensors)}
    index = f"{stem}.safetensors.index.json"
    files = {name: save({key: tensors[key] for key in tensors if places[key] == name}) for name in names}
    files[index] = json.dumps({"weight_map": places}).encode()
    digests = ", ".join(f"{place}{name}: {hashlib.sha256(data).hexdigest()}" for name, data in files.items())
    (tmp_path / "cards" / "toy.yaml").write_text(f"""
toy_wide:
  split: {{source: {{repo: acme/split, revision: main, file: {place}{index}, sha256: {{{digests}}}}},
          config: {{num_classes: 2}}}}
""")
    cards._read.cache_clear()
    hub = {f"acme/split/{place}{name}": data for name, data in files.items()}
    with serving(hub) as (endpoint, asked):
        assert same_state(model, zoo.create("toy_wide.split", endpoint=endpoint))
    fetched = {line.split("@")[0] for line in asked if line.startswith("GET")}
    assert fetched == {f"GET acme/split/{place}{name}" for name in files}
    assert all(line.endswith(f"@{COMMIT}") for line in asked if names[0] in line)
    hub[f"acme/split/{place}{names[1]}"] = files[names[0]]
    shutil.rmtree(tmp_path / "cache")
    with serving(hub) as (endpoint, _), pytest.raises(DamagedFile, match=rf"{names[1]}: its sha256 differs from the"):
        zoo.create("toy_wide.split", endpoint=endpoint)


def test_a_checksum_is_compared_for_a_file_in_a_subfolder_too(model, published, tmp_path):
    (tmp_path / "cards" / "toy.yaml").write_text(f"""
toy_wide:
  deep: {{source: {{repo: acme/deep, revision: main, file: unet/model.safetensors, sha256: {"0" * 64}}},
         config: {{num_classes: 2}}}}
""")
    cards._read.cache_clear()
    hub = {"acme/deep/unet/model.safetensors": published["acme/toy/model.safetensors"]}
    with serving(hub) as (endpoint, _), pytest.raises(DamagedFile, match="its sha256 differs from the card's"):
        zoo.create("toy_wide.deep", endpoint=endpoint)


def test_what_cannot_be_downloaded_names_what_needs_no_download(published):
    says = pytest.raises(OSError, match=r"acme/toy/model\.safetensors cannot be downloaded: .*; none are bundled")
    with serving({}) as (endpoint, _), says:
        zoo.create("toy_wide.pets", endpoint=endpoint)


@pytest.fixture
def torch_home(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.hub._hub_dir", str(tmp_path / "hub"))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path / "hub" / "checkpoints"


def test_torchvision_s_weights_come_by_its_own_way(torch_home, tmp_path):
    from torchvision.models import SqueezeNet1_1_Weights, squeezenet1_1

    peer = squeezenet1_1().eval()
    torch.save(peer.state_dict(), tmp_path / "squeezenet1_1-00000000.pth")
    weights = SqueezeNet1_1_Weights.IMAGENET1K_V1.value
    url = weights.url
    try:
        object.__setattr__(weights, "url", (tmp_path / "squeezenet1_1-00000000.pth").as_uri())
        with pytest.raises(DamagedFile, match=r'invalid hash value .expected "00000000"'):
            zoo.create("squeezenet1_1.imagenet1k_v1")
        digest = hashlib.sha256((tmp_path / "squeezenet1_1-00000000.pth").read_bytes()).hexdigest()
        (tmp_path / "squeezenet1_1-00000000.pth").rename(tmp_path / f"squeezenet1_1-{digest[:8]}.pth")
        object.__setattr__(weights, "url", (tmp_path / f"squeezenet1_1-{digest[:8]}.pth").as_uri())
        ours = zoo.create("squeezenet1_1.imagenet1k_v1").eval()
    finally:
        object.__setattr__(weights, "url", url)
    assert [path.name for path in torch_home.iterdir()] == [f"squeezenet1_1-{digest[:8]}.pth"]
    image = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(ours(image), peer(image))
    assert ours.load_report.format == "torchvision"
    assert (len(ours.provenance.labels), ours.provenance.labels[0]) == (1000, "tench")


def test_without_a_network_torchvision_s_weights_name_what_needs_no_download(torch_home):
    from torchvision.models import SqueezeNet1_1_Weights

    weights = SqueezeNet1_1_Weights.IMAGENET1K_V1.value
    url = weights.url
    try:
        object.__setattr__(weights, "url", "http://127.0.0.1:9/squeezenet1_1-b8a52dc0.pth")
        with pytest.raises(
            OSError, match=r"squeezenet1_1-b8a52dc0\.pth cannot be downloaded: .*; bundled with zoo are"
        ):
            zoo.create("squeezenet1_1.imagenet1k_v1")
    finally:
        object.__setattr__(weights, "url", url)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert zoo.config("squeezenet1_1.imagenet1k_v1") == zoo.config("squeezenet1_1")
