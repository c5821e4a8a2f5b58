"""Our language models with transformers' folders give its logits, gradients and texts, and write its files back."""

import json

import pytest
import torch
from comparison import TEXT, built, largest_difference, texts
from safetensors.torch import load_file, save_file

import zoo
from zoo.convert import foreign_tensors

pytestmark = pytest.mark.peers

SSM = {"hidden_size": 32, "num_hidden_layers": 3, "state_size": 8}
BIASES = {"use_bias": True, "use_conv_bias": False, "tie_word_embeddings": False}
DECODERS = {
    # a name for the case: transformers' config and class
    "gpt2": ("GPT2", {"n_positions": 48, "n_embd": 32, "n_layer": 3, "n_head": 4}),
    "gpt2 untied": ("GPT2", {"n_positions": 48, "n_embd": 32, "n_layer": 2, "n_head": 2, "tie_word_embeddings": False}),
    "llama": (
        "Llama",
        {"max_position_embeddings": 48, "hidden_size": 32, "intermediate_size": 56, "num_hidden_layers": 3,
         "num_attention_heads": 4, "num_key_value_heads": 2},
    ),
    "llama tied, with slower rotations": (
        "Llama",
        {"max_position_embeddings": 256, "hidden_size": 48, "intermediate_size": 56, "num_hidden_layers": 2,
         "num_attention_heads": 4, "num_key_value_heads": 4, "tie_word_embeddings": True,
         "rope_parameters": {"rope_type": "llama3", "rope_theta": 100.0, "factor": 8.0, "low_freq_factor": 1.0,
                             "high_freq_factor": 4.0, "original_max_position_embeddings": 32}},
    ),
    "llama with linear scaling": (
        "Llama",
        {"max_position_embeddings": 64, "hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2,
         "num_attention_heads": 2, "num_key_value_heads": 1, "rms_norm_eps": 1e-5,
         "rope_parameters": {"rope_type": "linear", "rope_theta": 500.0, "factor": 4.0}},
    ),
    "mamba": ("Mamba", SSM),
    "mamba untied, with biases": ("Mamba", {**SSM, **BIASES, "time_step_rank": 5, "conv_kernel": 3, "expand": 3}),
    "mamba2": ("Mamba2", {**SSM, "head_dim": 16, "num_heads": 4, "n_groups": 1, "tie_word_embeddings": True}),
    "mamba2 untied, with biases": ("Mamba2", {**SSM, **BIASES, "head_dim": 8, "num_heads": 8, "n_groups": 4}),
}  # fmt: skip


@pytest.fixture(scope="module", params=DECODERS, ids=str)
def pair(request, tmp_path_factory):
    """A network of transformers with weights in which nothing is zero or one any more, its folder, and ours."""
    family, options = DECODERS[request.param]
    theirs = built(family, options)
    folder = tmp_path_factory.mktemp("peer")
    theirs.save_pretrained(folder)
    return theirs, folder, zoo.create(f"local-dir:{folder}").eval()


@torch.no_grad()
def test_logits_are_the_peer_s(pair):
    theirs, _, ours = pair
    assert ours.load_report.format == "transformers"
    assert largest_difference(ours(texts()), theirs(texts()).logits) < 2e-5


def test_gradients_are_the_peer_s(pair):
    theirs, _, ours = pair
    for model in (ours, theirs):
        model.zero_grad()
        output = model(texts())
        logits = output if model is ours else output.logits
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), texts().roll(-1, 1).flatten()).backward()
    gradients = {name: parameter.grad for name, parameter in ours.named_parameters()}
    model = zoo.create(zoo.config(ours.provenance.preset, **vars(ours.config)), device="cpu")
    model.load_state_dict({**ours.state_dict(), **gradients})  # so that they travel the way of the weights
    found = foreign_tensors(model, "transformers")
    expected = {name: p.grad for name, p in theirs.named_parameters() if p.grad is not None}
    assert expected.keys() <= found.keys()
    error = sum((found[name] - gradient).square().sum() for name, gradient in expected.items()).sqrt()
    assert error / sum(gradient.square().sum() for gradient in expected.values()).sqrt() < 1e-4


@torch.no_grad()
def test_greedy_texts_are_the_peer_s_token_for_token(pair):
    theirs, _, ours = pair
    expected = theirs.generate(texts(3, 9), max_new_tokens=20, do_sample=False)
    assert torch.equal(ours.generate(texts(3, 9), 20), expected)


def test_export_returns_the_same_keys_and_bits(pair, tmp_path):
    _, folder, ours = pair
    stored = load_file(folder / "model.safetensors")
    written = load_file(zoo.export_weights(ours, tmp_path / "out.safetensors", format="transformers"))
    assert written.keys() == stored.keys()
    assert all(written[name].dtype == t.dtype and torch.equal(written[name], t) for name, t in stored.items())


@torch.no_grad()
def test_a_folder_of_several_files_is_read_too(pair, tmp_path):
    theirs, _, ours = pair
    theirs.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    assert torch.equal(zoo.create(f"local-dir:{tmp_path}").eval()(texts()), ours(texts()))


@torch.no_grad()
def test_the_body_alone_is_recognised_where_the_head_is_tied(pair, tmp_path):
    theirs, folder, ours = pair
    if getattr(ours.config, "tie_embeddings", False):
        body = theirs.base_model
        body.save_pretrained(tmp_path)  # without the prefix
        (tmp_path / "config.json").write_text((folder / "config.json").read_text())
        assert torch.equal(zoo.create(f"local-dir:{tmp_path}").eval()(texts()), ours(texts()))


@torch.no_grad()
def test_an_equal_copy_of_a_tied_head_is_merged_and_another_refused(pair, tmp_path):
    _, folder, ours = pair
    if not ours.config.tie_embeddings:
        return
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    stored = load_file(folder / "model.safetensors")
    embedding = next(name for name, t in stored.items() if t.shape[0] == TEXT["vocab_size"])
    save_file({**stored, "lm_head.weight": stored[embedding].clone()}, tmp_path / "model.safetensors")
    assert torch.equal(zoo.create(f"local-dir:{tmp_path}").eval()(texts()), ours(texts()))
    save_file({**stored, "lm_head.weight": stored[embedding] + 1}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"lm_head\.weight differs from .*; create it with tie_embeddings=False"):
        zoo.create(f"local-dir:{tmp_path}")


@torch.no_grad()
def test_masks_and_prefixes_of_old_gpt2_files_are_understood(tmp_path):
    theirs = built("GPT2", DECODERS["gpt2"][1])
    theirs.save_pretrained(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    old = {name.removeprefix("transformer."): tensor for name, tensor in stored.items()}
    old |= {f"h.{block}.attn.bias": torch.ones(1, 1, 48, 48).tril() for block in range(3)}
    old |= {f"h.{block}.attn.masked_bias": torch.tensor(-1e4) for block in range(3)}
    save_file(old, tmp_path / "model.safetensors")
    ours = zoo.create("gpt2", weights=tmp_path).eval()
    assert len(ours.load_report.ignored) == 6
    assert largest_difference(ours(texts()), theirs(texts()).logits) < 2e-5


def test_a_preset_of_another_size_does_not_take_a_folder(tmp_path):
    built("GPT2", DECODERS["gpt2"][1]).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="not a gpt2_medium; use local-dir:"):
        zoo.create("gpt2_medium", weights=tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "gpt3"}, "no architecture here has the model_type 'gpt3'; did you mean gpt2"),
        ({"activation_function": "relu"}, "activation_function is 'relu', and this architecture knows only 'gelu_new'"),
        ({"n_head": "four"}, "num_heads"),
        ({"n_head": 5}, "dim 32 is not divisible by num_heads 5"),
    ],
    ids=str,
)
def test_a_config_that_ours_cannot_be_is_refused(tmp_path, change, message):
    built("GPT2", DECODERS["gpt2"][1]).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message) as caught:
        zoo.create(f"local-dir:{tmp_path}")
    assert str(tmp_path / "config.json") in str(caught.value)
