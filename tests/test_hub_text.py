"""Language models of the Hub: weights and tokenizer are fetched together, once, and write what transformers writes."""

import hashlib
import json
import sysconfig
from pathlib import Path

import pytest
import torch
import transformers
from hub_server import COMMIT, serving
from toy_tokenizer import learnt
from toy_zoo import same_state

import zoo
from zoo.nn.sampling import Sampling
from zoo.pipelines import complete
from zoo.storage import DamagedFile
from zoo.training.run import RunConfig
from zoo.weights import cards

pytestmark = pytest.mark.peers

PROMPT = "def parse(text):"
SIZES = {"vocab_size": 400, "max_seq_len": 64, "dim": 32, "depth": 2, "num_heads": 2}
NOBODY = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """A GPT-2 of transformers and its folder, of whose tokenizer_config.json as little is left as in OpenAI's."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("gpt2")
    model = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=400, n_positions=64, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
        )
    ).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.5 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    whole = (folder / "model.safetensors").read_bytes()
    model.save_pretrained(folder, max_shard_size="20KB")  # which deletes the whole one
    (folder / "model.safetensors").write_bytes(whole)
    learnt("<|endoftext|>").save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 64}')
    return model, folder


@pytest.fixture
def hub(theirs, tmp_path, monkeypatch):
    """What the Hub has of acme/gpt2, which may be changed; the zoo knows these weights alone."""
    _, folder = theirs
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    source = {"repo": "acme/gpt2", "file": "model.safetensors", "revision": "main"}
    index = source | {"file": "model.safetensors.index.json"}
    facts = {"config": SIZES, "tokenizer": "tokenizer.json"}
    weights = {
        "acme": {"source": source | {"sha256": digests["model.safetensors"]}, **facts, "default": True},
        "shards": {"source": index | {"sha256": digests}, **facts},
        "wordless": {"source": source, **facts},
        "other": {"source": source | {"tokenizer": "acme/words"}, **facts},
    }
    monkeypatch.setattr(cards, "CARDS", tmp_path / "cards")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cards").mkdir()
    (tmp_path / "cards" / "gpt2.yaml").write_text(json.dumps({"gpt2": weights}))
    return {f"acme/gpt2/{name}": data for name, data in files.items() if name != "config.json"}


@pytest.fixture
def at(monkeypatch):
    """Sets the Hub's address where no function takes it."""

    def change(endpoint):
        template = f"{endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)

    return change


def written(model, prompt=PROMPT):
    return "".join(complete(model.eval(), prompt, 24, sampling=Sampling(temperature=0)))


def written_by_peer(theirs):
    model, folder = theirs
    reader = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    tokens = torch.tensor([reader.encode(PROMPT)])
    text = model.generate(tokens, max_new_tokens=24, do_sample=False, pad_token_id=0)[0, tokens.shape[1] :]
    return reader.decode(text, skip_special_tokens=True)


@pytest.mark.parametrize("tag", ["acme", "shards"])
def test_a_model_of_the_hub_writes_what_transformers_writes_also_without_a_network(hub, theirs, at, tmp_path, tag):
    with serving(hub) as (endpoint, asked):
        first = zoo.create(f"gpt2.{tag}", endpoint=endpoint)
        fetched = len(asked)
        again = zoo.create(f"gpt2.{tag}", endpoint=endpoint)
        assert len(asked) == fetched
    belonging = [line for line in asked if "tokenizer" in line or "-of-" in line]
    assert belonging
    assert all(line.endswith(f"@{COMMIT}") for line in belonging)  # so that all is of one time
    at(NOBODY)
    offline = zoo.create(f"gpt2.{tag}", endpoint=NOBODY)
    expected = written_by_peer(theirs)
    assert len(set(expected)) > 4
    assert [written(model) for model in (first, again, offline)] == [expected] * 3
    assert zoo.tokenizer(f"gpt2.{tag}").stop_tokens == (0,)
    assert written(zoo.load(zoo.save(offline, tmp_path / "mine"))) == expected
    assert (offline.provenance.tag, offline.load_report.format) == (tag, "transformers")


def test_the_default_tag_is_meant_by_pretrained_and_by_the_command_line(hub, theirs, at, run):
    with serving(hub) as (endpoint, _):
        at(endpoint)
        assert same_state(zoo.create("gpt2", pretrained=True), zoo.create("gpt2.acme"))
    at(NOBODY)
    answer = json.loads(run("generate", "gpt2", PROMPT, "--max-new-tokens", "24", "--temperature", "0", "--json"))
    assert answer["completion"] == written_by_peer(theirs)


def test_a_name_s_config_needs_no_network_and_its_tokenizer_no_weights(hub, at):
    with serving(hub) as (endpoint, asked):
        at(endpoint)
        assert zoo.config("gpt2.acme").dim == zoo.describe("gpt2.acme").config.dim == 32
        assert asked == []
        assert zoo.tokenizer("gpt2.acme").encode(PROMPT)[0]
        files = {line.split("/")[-1].split("@")[0] for line in asked}
        assert files == {"tokenizer.json", "tokenizer_config.json", "generation_config.json"}


def test_what_else_ends_a_text_is_fetched_with_the_tokenizer(hub, at, tmp_path):
    hub["acme/gpt2/generation_config.json"] = b'{"eos_token_id": [9, 0, 7], "temperature": 0.6}'
    with serving(hub) as (endpoint, _):
        model = zoo.create("gpt2.acme", endpoint=endpoint)
    at(NOBODY)
    assert zoo.tokenizer(model).stop_tokens == zoo.tokenizer("gpt2.acme").stop_tokens == (9, 0, 7)
    assert zoo.tokenizer(zoo.load(zoo.save(model, tmp_path / "mine"))).stop_tokens == (9, 0, 7)


@pytest.mark.parametrize("config", [True, False], ids=["with its config", "alone"])
def test_the_tokenizer_may_lie_in_another_repository(hub, at, config):
    hub["acme/words/tokenizer.json"] = hub.pop("acme/gpt2/tokenizer.json")
    hub["acme/words/tokenizer_config.json"] = b'{"pad_token": "!"}'
    if not config:
        del hub["acme/words/tokenizer_config.json"]
    with serving(hub) as (endpoint, _):
        zoo.create("gpt2.other", endpoint=endpoint)
    at(NOBODY)  # that a file is missing is remembered as well
    reader = zoo.tokenizer(zoo.create("gpt2.other"))
    assert reader.pad_token == (reader.encode("!")[0][0] if config else 0)


def test_a_repository_without_a_tokenizer_gives_a_model_that_reads_no_text(hub, at, tmp_path):
    del hub["acme/gpt2/tokenizer.json"]
    with serving(hub) as (endpoint, _):
        zoo.create("gpt2.wordless", endpoint=endpoint)
    at(NOBODY)
    model = zoo.create("gpt2.wordless")
    assert model(torch.tensor([[1, 2, 3]])).shape == (1, 3, 400)
    zoo.save(model, tmp_path / "mine")
    for ask in (lambda: complete(model, PROMPT), lambda: zoo.tokenizer("gpt2.wordless")):
        with pytest.raises(ValueError, match="has a vocabulary of 400 tokens and no tokenizer with it"):
            ask()


@pytest.mark.parametrize(
    ("tag", "file"),
    [
        ("acme", "model.safetensors"),
        ("shards", "model-00002-of-*.safetensors"),
        ("shards", "model.safetensors.index.json"),
        ("shards", "tokenizer.json"),
    ],
)
def test_a_changed_byte_is_refused(hub, tag, file):
    (name,) = (name for name in hub if Path(name).match(file))
    hub[name] = hub[name][:-1] + bytes([hub[name][-1] ^ 1])
    says = pytest.raises(DamagedFile, match=r"its sha256 differs from the card's; delete it")
    with serving(hub) as (endpoint, _), says:
        zoo.create(f"gpt2.{tag}", endpoint=endpoint)


def test_an_index_names_no_file_outside_its_repository(hub):
    hub["acme/gpt2/model.safetensors.index.json"] = b'{"weight_map": {"wte.weight": "../../secret.safetensors"}}'
    with serving(hub) as (endpoint, _), pytest.raises(DamagedFile, match="names files that no model has"):
        zoo.create("gpt2.shards", endpoint=endpoint, verify=False)


def test_a_missing_shard_is_named(hub):
    (name,) = (name for name in hub if "model-00002-of-" in name)
    del hub[name]
    with serving(hub) as (endpoint, _), pytest.raises(OSError, match=f"{name} cannot be downloaded: there is no such"):
        zoo.create("gpt2.shards", endpoint=endpoint)


def test_a_gated_repository_says_where_to_ask(hub):
    says = pytest.raises(OSError, match=r"asks for consent: accept the licence at https://huggingface\.co/acme/gpt2")
    with serving(hub, gated=True) as (endpoint, _), says:
        zoo.create("gpt2.acme", endpoint=endpoint)


def test_weights_of_text_are_listed_and_described(run):
    assert "smollm2_135m" in run("list", "--pretrained", "--task", "text-generation")
    assert "llama3_2_1b.instruct" in run("list", "llama3_2*", "--tags")
    (row,) = (line for line in run("info", "llama3_2_1b").splitlines() if line.split()[:1] == ["instruct"])
    assert "llama3.2, gated" in row
    (row,) = (line for line in run("info", "gpt2").splitlines() if line.split()[:1] == ["openai"])
    assert row.split() == ["openai", "mit", "yes", "text"]


@pytest.mark.parametrize(
    ("model", "name"), [({"name": "gpt2", "pretrained": True}, "gpt2.acme"), ({"name": "gpt2.shards"}, "gpt2.shards")]
)
def test_a_run_that_starts_from_weights_of_the_hub_reads_text_by_their_tokenizer(hub, at, model, name):
    path = Path(sysconfig.get_path("stdlib")) / "bisect.py"
    data = {"name": "text", "path": str(path), "seq_len": 32}
    with serving(hub) as (endpoint, _):
        at(endpoint)
        trainer = zoo.Trainer(RunConfig.of({"model": model, "data": data, "trainer": {"steps": 1}}))
        expected, _ = zoo.tokenizer(name).encode(path.read_text())
    assert trainer.config.data["tokenizer"] == name
    assert trainer.splits.train.fetch([0], None)["tokens"][0].tolist() == expected[:32]
