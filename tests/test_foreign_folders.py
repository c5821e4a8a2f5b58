"""Folders of transformers that lack something or say something odd: each is read as there, or the reason is given."""

import contextlib
import itertools
import json

import pytest
import torch
from comparison import built, largest_difference, texts
from safetensors.torch import load_file, save_file

import zoo
from zoo.config import ConfigError
from zoo.storage import DamagedFile

SMALL = {"vocab_size": 30, "max_seq_len": 16, "dim": 16, "depth": 1, "num_heads": 2}
FIELDS = {"vocab_size": 30, "n_positions": 16, "n_embd": 16, "n_layer": 1, "n_head": 2}
LLAMA = {
    "max_position_embeddings": 256, "hidden_size": 48, "intermediate_size": 56, "num_hidden_layers": 2,
    "num_attention_heads": 4,
}  # fmt: skip
SLOWED = {"rope_type": "llama3", "rope_theta": 100.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
EVERYWHERE = {"model_type", "architectures", "id2label", "num_labels", "tie_word_embeddings"}
ODD = [None, ["a"], {}, "linear", 0]


@pytest.fixture
def folder(tmp_path):
    """A GPT-2 as transformers would store it."""
    torch.manual_seed(0)
    zoo.export_weights(zoo.create("gpt2", **SMALL), tmp_path / "model.safetensors", format="transformers")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2", **FIELDS}))
    return tmp_path


def change(folder, **facts):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))


@pytest.mark.peers
@pytest.mark.parametrize("kind", ["bert", "clip", "gpt2", "llama", "mamba", "mamba2", "t5", "vit_mae"])
@pytest.mark.filterwarnings("ignore:resid_pdrop")
def test_a_config_that_says_anything_at_all_is_read_or_refused(kind, tmp_path):
    transformers = pytest.importorskip("transformers")
    names = transformers.AutoConfig.for_model(kind).to_dict().keys() - transformers.PreTrainedConfig().to_dict().keys()
    for name, value in itertools.product({*names, *EVERYWHERE, "rope_scaling"}, ODD):
        (tmp_path / "config.json").write_text(json.dumps({"model_type": kind, name: value}))
        with contextlib.suppress(ConfigError):
            zoo.config(f"local-dir:{tmp_path}")


def test_dropouts_that_differ_are_told(folder):
    change(folder, resid_pdrop=0.2, embd_pdrop=0.2, attn_pdrop=0.2)
    assert zoo.config(f"local-dir:{folder}").dropout == 0.2
    change(folder, attn_pdrop=0)
    with pytest.warns(UserWarning, match=r"resid_pdrop 0\.2, embd_pdrop 0\.2, attn_pdrop 0: this .* one dropout"):
        assert zoo.config(f"local-dir:{folder}").dropout == 0.2


@pytest.mark.peers
@pytest.mark.parametrize(
    ("facts", "rope"),
    [
        ({}, {}),
        ({}, {"original_max_position_embeddings": 32}),
        ({"original_max_position_embeddings": 64}, {"original_max_position_embeddings": 32}),
        ({"num_key_value_heads": None}, {"original_max_position_embeddings": 32}),
    ],
    ids=["silent", "given", "given beside", "as many keys as queries"],
)
@torch.no_grad()
def test_a_llama_whose_config_leaves_something_out_is_read_as_transformers_reads_it(tmp_path, facts, rope):
    theirs = built("Llama", LLAMA)
    theirs.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config = {name: value for name, value in config.items() if name != "rope_parameters"}
    (tmp_path / "config.json").write_text(json.dumps({**config, "rope_scaling": SLOWED | rope, **facts}))
    expected = type(theirs).from_pretrained(tmp_path).eval()(texts(2, 200)).logits
    assert largest_difference(zoo.create(f"local-dir:{tmp_path}").eval()(texts(2, 200)), expected) < 2e-5


@pytest.mark.peers
@torch.no_grad()
def test_a_body_whose_own_head_is_missing_says_what_can_be_done(tmp_path):
    theirs = built("Llama", LLAMA)
    theirs.model.save_pretrained(tmp_path)
    with pytest.raises(
        ValueError, match=r"lacks 'head\.weight'; it was saved without its head: .* tie_embeddings=True"
    ):
        zoo.create(f"local-dir:{tmp_path}")
    ours = zoo.create(f"local-dir:{tmp_path}", tie_embeddings=True).eval()
    hidden = theirs.eval().model(texts()).last_hidden_state
    assert largest_difference(ours(texts()), hidden @ ours.embed.weight.T) < 2e-5


def test_pickled_weights_alone_are_named_with_a_way_out(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"no model\.safetensors, and pytorch_model\.bin is not loaded, .*torch\.load"):
        zoo.create(f"local-dir:{folder}")


def test_a_missing_file_is_named_with_what_names_it(folder):
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    with pytest.raises(DamagedFile, match=r"model\.safetensors: missing; fetch it too"):
        zoo.create(f"local-dir:{folder}")
    names = [f"model-0000{part}-of-00002.safetensors" for part in (1, 2)]
    places = {name: names[index % 2] for index, name in enumerate(tensors)}
    for name in names:
        save_file({tensor: tensors[tensor] for tensor in tensors if places[tensor] == name}, folder / name)
    with pytest.raises(DamagedFile, match=r"index\.json: missing, and only it says what belongs to model-00001"):
        zoo.create(f"local-dir:{folder}")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    with pytest.raises(ValueError, match="is the index of weights in several files; give their folder"):
        zoo.create("gpt2", **SMALL, weights=index)
    assert zoo.create(f"local-dir:{folder}").load_report.loaded == len(tensors)
    (folder / names[1]).unlink()
    with pytest.raises(DamagedFile, match=r"00002-of-00002\.safetensors: missing, though .*index\.json names it"):
        zoo.create(f"local-dir:{folder}")
