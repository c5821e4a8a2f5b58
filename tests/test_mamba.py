"""Mamba and Mamba-2 are the published networks: their numbers, their checkpoints, their start, their memory."""

import json
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from comparison import built, largest_difference, texts
from laws import build, differ, perturbed
from safetensors.torch import load_file, save_file
from torch.utils._pytree import tree_leaves, tree_map

import zoo
from zoo.architectures.mamba import ARCHITECTURE as MAMBA
from zoo.architectures.mamba import MambaConfig
from zoo.architectures.mamba2 import ARCHITECTURE as MAMBA2
from zoo.architectures.mamba2 import Mamba2Config
from zoo.convert import foreign_tensors

each_mamba = pytest.mark.parametrize("architecture", [MAMBA, MAMBA2], ids=["mamba", "mamba2"])

TOKENS = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])
SMALL = {"hidden_size": 32, "num_hidden_layers": 3, "state_size": 8}
PAIRS = {
    "mamba": ("Mamba", SMALL),
    "mamba2": ("Mamba2", {**SMALL, "head_dim": 16, "num_heads": 4, "n_groups": 1, "tie_word_embeddings": True}),
}


@pytest.fixture(scope="module", params=PAIRS, ids=str)
def pair(request, tmp_path_factory):
    """The folder of a network of transformers, and ours."""
    folder = tmp_path_factory.mktemp("peer")
    built(*PAIRS[request.param]).save_pretrained(folder)
    return folder, zoo.create(f"local-dir:{folder}").eval()


@pytest.mark.peers
@torch.no_grad()
def test_the_authors_names_are_known_with_and_without_the_tied_head(pair, tmp_path):
    folder, ours = pair
    name, embedding = ours.provenance.preset, "backbone.embedding.weight"
    original = {
        key.replace("embeddings", "embedding"): tensor
        for key, tensor in load_file(folder / "model.safetensors").items()
    }
    whole = {"lm_head.weight": original[embedding].clone(), **original}  # as the authors' own release writes it
    for extra in ({}, whole):
        save_file(original | extra, tmp_path / "model.safetensors")
        model = zoo.create(name, weights=tmp_path / "model.safetensors", **vars(ours.config)).eval()
        assert torch.equal(model(texts()), ours(texts()))
        written = foreign_tensors(model, "state_spaces")
        assert written.keys() == whole.keys()
        assert all(torch.equal(written[key], tensor) for key, tensor in whole.items())


@pytest.mark.peers
@pytest.mark.parametrize("record", [MAMBA, MAMBA2], ids=["mamba", "mamba2"])
def test_every_preset_has_the_peer_s_tensors(record):
    transformers = pytest.importorskip("transformers")
    for name, config in record.presets.items():
        sizes = {"vocab_size": config.vocab_size, "hidden_size": config.dim, "num_hidden_layers": config.depth}
        sizes |= {"state_size": config.state_dim, "tie_word_embeddings": True}
        if record is MAMBA2:
            sizes |= {"n_groups": 1, "num_heads": config.expand * config.dim // 64}
        family = "Mamba2" if record is MAMBA2 else "Mamba"
        with torch.device("meta"):
            theirs = getattr(transformers, f"{family}ForCausalLM")(getattr(transformers, f"{family}Config")(**sizes))
            theirs.tie_weights()
        assert sum(parameter.numel() for parameter in theirs.parameters()) == record.params[name]
        expected = {key: tensor.shape for key, tensor in theirs.named_parameters()}
        ours = foreign_tensors(zoo.create(name, device="meta"), "transformers")
        assert {key: tensor.shape for key, tensor in ours.items()} == expected


@pytest.mark.peers
@pytest.mark.parametrize(
    ("family", "change", "message"),
    [
        ("Mamba", {"hidden_act": "relu"}, "hidden_act is 'relu', and this architecture knows only 'silu'"),
        ("Mamba2", {"time_step_limit": [0.0, 0.1]}, r"time_step_limit is \[0.0, 0.1\]"),
        ("Mamba2", {"num_heads": 5}, "num_heads is 5, and this architecture knows only 4"),
        ("Mamba2", {"head_dim": "wide"}, "head_dim"),
    ],
    ids=str,
)
def test_a_config_that_ours_cannot_be_is_refused(tmp_path, family, change, message):
    built(family, PAIRS[family.lower()][1]).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message):
        zoo.create(f"local-dir:{tmp_path}")


@each_mamba
@torch.no_grad()
@pytest.mark.parametrize("cut", [1, 2, 3, 40, 64, 84])
def test_a_text_in_two_parts_is_the_whole(architecture, cut):
    model, tokens = perturbed(architecture), torch.randint(64, (2, 85))
    first, state = model(tokens[:, :cut], model.new_state(85))
    second, _ = model(tokens[:, cut:], state)
    torch.testing.assert_close(torch.cat([first, second], 1), model(tokens), rtol=1e-4, atol=1e-5)


@each_mamba
@torch.no_grad()
def test_a_step_for_each_token_is_the_whole(architecture):
    model, tokens = perturbed(architecture), torch.randint(64, (2, 85))
    logits, state = model(tokens), model.new_state(85)
    for position, token in enumerate(tokens.split(1, dim=1)):
        last, state = model.step(token, state)
        torch.testing.assert_close(last, logits[:, position], rtol=1e-4, atol=1e-5)


@each_mamba
def test_gradients_go_through_a_carried_state(architecture):
    model, tokens = perturbed(architecture), torch.randint(64, (2, 40))
    gradients = []
    for cut in (None, 23):
        model.zero_grad()
        if cut is None:
            logits = model(tokens)
        else:
            first, state = model(tokens[:, :cut], model.new_state(40))
            logits = torch.cat([first, model(tokens[:, cut:], state)[0]], 1)
        logits[:, -1].square().sum().backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-3, atol=1e-4)


@each_mamba
@torch.no_grad()
def test_a_state_is_of_one_size_and_is_not_changed_by_reading_on(architecture):
    model, tokens = perturbed(architecture), torch.randint(64, (2, 60))
    _, state = model.step(tokens[:, :1], model.new_state(60))
    before = tree_map(torch.clone, state)
    _, later = model.step(tokens[:, 1:], state)
    assert [leaf.shape for leaf in tree_leaves(later)] == [leaf.shape for leaf in tree_leaves(before)]
    assert all(torch.equal(*pair) for pair in zip(tree_leaves(state), tree_leaves(before), strict=True))


@each_mamba
@torch.no_grad()
def test_the_stream_and_the_states_of_a_half_precision_model_are_float32(architecture):
    model = perturbed(architecture).bfloat16()
    seen = []
    model.blocks[1].register_forward_hook(lambda _module, _inputs, output: seen.append(output[0].dtype))
    logits, state = model(torch.randint(64, (1, 9)), model.new_state(9))
    assert seen == [torch.float32]
    assert logits.dtype == torch.bfloat16
    assert {memory[1].dtype for memory in state} == {torch.float32}


@each_mamba
@torch.no_grad()
def test_a_float64_model_computes_in_float64_throughout(architecture):
    model, tokens = perturbed(architecture).double(), torch.randint(64, (2, 70))
    logits = model(tokens)
    first, state = model(tokens[:, :33], model.new_state(70))
    assert {leaf.dtype for leaf in tree_leaves((first, state))} == {torch.float64}
    second, _ = model(tokens[:, 33:], state)
    assert largest_difference(torch.cat([first, second], 1), logits) < 1e-13


@each_mamba
@pytest.mark.parametrize("size", [{"state_dim": 1}, {"conv_width": 3}, {"dim": 8}], ids=str)
@torch.no_grad()
def test_the_state_of_a_model_of_another_size_is_refused(architecture, size):
    model, other = build(architecture), build(architecture, replace(architecture.tiny, **size))
    _, state = other(TOKENS, other.new_state(4))
    for tokens in (TOKENS, TOKENS[:, :1]):
        with pytest.raises(ValueError, match=r"a state of shapes .* does not fit: .* \(2, 3, \d+\), .*; take it from"):
            model(tokens, state)


@each_mamba
def test_decay_spares_what_the_authors_spare(architecture):
    model = build(architecture)
    spared = {
        f"{name}.{tensor}"
        for name, module in model.named_modules()
        for tensor in getattr(module, "no_weight_decay", ())
    }
    assert {"blocks.0.mixer.A_log", "blocks.1.mixer.D"} <= spared
    assert spared <= {name for name, _ in model.named_parameters()}


@pytest.fixture(scope="module")
def wide_models():
    mamba = MambaConfig(vocab_size=500, dim=96, depth=4, dt_rank=6, bias=True, tie_embeddings=False)
    mamba2 = Mamba2Config(vocab_size=500, dim=96, depth=4, state_dim=16, head_dim=2, bias=True, tie_embeddings=False)
    return {"mamba": build(MAMBA, mamba), "mamba2": build(MAMBA2, mamba2)}


@each_mamba
def test_weights_start_as_the_authors_draw_them(architecture, wide_models):
    model = wide_models[architecture.name]
    mixer = model.blocks[2].mixer
    assert model.embed.weight.std().item() == pytest.approx(0.02, rel=0.02)
    fan_in = mixer.proj.in_features
    assert mixer.up.weight.std().item() == pytest.approx(1 / math.sqrt(3 * 96), rel=0.02)
    assert mixer.proj.weight.std().item() == pytest.approx(1 / math.sqrt(3 * fan_in * 4), rel=0.02)
    assert mixer.conv.weight.abs().max() <= 0.5
    assert not mixer.up.bias.any()
    assert not mixer.proj.bias.any()
    assert (mixer.D == 1).all()
    assert (model.norm.weight == 1).all()


@each_mamba
def test_time_steps_start_evenly_on_a_logarithmic_scale(architecture, wide_models):
    mixer = wide_models[architecture.name].blocks[0].mixer
    bias = mixer.delta.bias if architecture is MAMBA else mixer.delta_bias
    delta = F.softplus(bias)
    assert 0.00099 < delta.min() < 0.002
    assert 0.05 < delta.max() < 0.101
    assert delta.log().mean().item() == pytest.approx((math.log(0.001) + math.log(0.1)) / 2, abs=0.4)


def test_mamba_s_decays_start_at_whole_numbers_and_mamba2_s_between_1_and_16(wide_models):
    rates = wide_models["mamba"].blocks[0].mixer.A_log.exp()
    torch.testing.assert_close(rates, torch.arange(1.0, 17).expand_as(rates))
    rates = wide_models["mamba2"].blocks[0].mixer.A_log.exp()
    assert 1 <= rates.min() < 2.5
    assert 14.5 < rates.max() <= 16


@pytest.mark.parametrize(
    ("config", "sizes", "message"),
    [
        (MambaConfig, {"state_dim": 0}, "state_dim 0 is below 1"),
        (Mamba2Config, {"conv_width": 0}, "conv_width 0 is below 1"),
        (MambaConfig, {"norm_eps": -1.0}, "norm_eps -1.0 is not positive"),
        (Mamba2Config, {"norm_eps": float("nan")}, "norm_eps nan is not positive"),
        (Mamba2Config, {"head_dim": 100}, "expand x dim 1536 is not divisible by head_dim 100"),
        (Mamba2Config, {"groups": 5}, "the 24 heads are not divisible by groups 5"),
    ],
    ids=str,
)
def test_sizes_that_do_not_fit_are_refused(config, sizes, message):
    with pytest.raises(ValueError, match=message):
        config(**sizes)


def test_heads_of_a_group_share_what_they_read_and_others_do_not():
    """Mamba-2's first group of heads does not see the second group's B."""
    model = perturbed(MAMBA2)
    mixer = model.blocks[0].mixer
    channels, shared = mixer.parts[0], mixer.parts[1]
    x = torch.randn(1, 6, 16)
    gated = []
    mixer.norm.register_forward_pre_hook(lambda _module, inputs: gated.append(inputs[0]))
    mixer(x)
    with torch.no_grad():
        second = slice(2 * channels + shared // 2, 2 * channels + shared)  # of the projection: gate, x, B, C, delta
        mixer.up.weight[second] += 1
    mixer(x)
    first_half, second_half = zip(*(y.chunk(2, -1) for y in gated), strict=True)
    assert torch.equal(*first_half)
    assert differ(*second_half)
