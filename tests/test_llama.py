"""Llama: its sizes, its rotations, and checkpoints in which neighbouring features turn together."""

import pytest
import torch
import torch.nn.functional as F
import transformers
from laws import perturbed
from safetensors.torch import load_file, save_file

import zoo
from zoo.architectures.llama import ARCHITECTURE, LlamaConfig, rope_frequencies

SMALL = {"vocab_size": 50, "max_seq_len": 32, "dim": 32, "depth": 2, "num_heads": 4, "num_kv_heads": 2, "mlp_dim": 40}


@pytest.mark.parametrize("preset", ARCHITECTURE.presets)
def test_every_preset_has_as_many_parameters_as_the_peer_s_network(preset):
    config = ARCHITECTURE.presets[preset]
    theirs = transformers.LlamaConfig(
        vocab_size=config.vocab_size, hidden_size=config.dim, intermediate_size=config.mlp_dim,
        num_hidden_layers=config.depth, num_attention_heads=config.num_heads,
        num_key_value_heads=config.num_kv_heads, tie_word_embeddings=config.tie_embeddings,
    )  # fmt: skip
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(theirs)
    assert sum(parameter.numel() for parameter in model.parameters()) == ARCHITECTURE.params[preset]


def by_complex_numbers(state, tokens, heads, kv_heads, eps=1e-5, theta=10_000.0):
    """The network from the paper's equations, with Meta's names: each pair of neighbours is a complex number."""
    dim = state["tok_embeddings.weight"].shape[1] // heads
    speed = theta ** -(torch.arange(0, dim, 2).double() / dim)
    turn = torch.exp(1j * torch.arange(tokens.shape[1])[:, None] * speed)  # (seq, dim / 2)

    def norm(x, name):
        return x * (x.square().mean(-1, keepdim=True) + eps).rsqrt() * state[name]

    def turned(x):
        pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
        return torch.view_as_real(pairs * turn[:, None]).flatten(-2)

    x = state["tok_embeddings.weight"][tokens]
    for layer in range(2):
        at = f"layers.{layer}."
        y = norm(x, at + "attention_norm.weight")
        q, k, v = (
            (y @ state[f"{at}attention.w{name}.weight"].T).unflatten(-1, (count, dim))
            for name, count in (("q", heads), ("k", kv_heads), ("v", kv_heads))
        )
        k, v = (part.repeat_interleave(heads // kv_heads, dim=2) for part in (turned(k), v))
        scores = torch.einsum("bqhd,bkhd->bhqk", turned(q), k) / dim**0.5
        scores = scores.masked_fill(torch.ones_like(scores[0, 0]).triu(1).bool(), -torch.inf).softmax(-1)
        x = x + torch.einsum("bhqk,bkhd->bqhd", scores, v).flatten(2) @ state[at + "attention.wo.weight"].T
        y = norm(x, at + "ffn_norm.weight")
        gate, up = (y @ state[f"{at}feed_forward.{name}.weight"].T for name in ("w1", "w3"))
        x = x + (F.silu(gate) * up) @ state[at + "feed_forward.w2.weight"].T
    return norm(x, "norm.weight") @ state["output.weight"].T


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_a_checkpoint_whose_features_turn_with_their_neighbours_is_understood(tied, tmp_path):
    config = LlamaConfig(**SMALL, tie_embeddings=tied)
    model, tokens = perturbed(ARCHITECTURE, config), torch.randint(50, (2, 20))
    file = zoo.export_weights(model, tmp_path / "meta.safetensors", format="meta")
    state = load_file(file)
    full = {"output.weight": state["tok_embeddings.weight"], **state}
    assert ("output.weight" in state) != tied
    expected = by_complex_numbers({name: tensor.double() for name, tensor in full.items()}, tokens, 4, 2)
    torch.testing.assert_close(model(tokens).double(), expected, rtol=0, atol=2e-5 * expected.abs().max().item())

    beside = {"freqs_cos": torch.zeros(32, 4), "freqs_sin": torch.zeros(32, 4)}  # as llama2.c stores them
    save_file({f"_orig_mod.{name}": t.clone() for name, t in (full | beside).items()}, file)
    again = zoo.create(config, weights=file).eval()
    assert again.load_report.format == "meta"
    assert torch.equal(again(tokens), model(tokens))


def test_rotations_scaled_for_longer_texts_leave_fast_pairs_alone_and_slow_down_slow_ones():
    options = {**SMALL, "dim": 512, "rope_original_length": 512}
    plain, linear, llama3 = (
        rope_frequencies(LlamaConfig(**options, rope_scaling=scaling, rope_factor=factor), torch.device("cpu"))
        for scaling, factor in (("none", 1.0), ("linear", 8.0), ("llama3", 8.0))
    )
    turns = 512 * plain / (2 * torch.pi)
    assert plain[0] == 1
    assert (plain[1:] < plain[:-1]).all()
    torch.testing.assert_close(linear, plain / 8)
    torch.testing.assert_close(llama3[turns > 4], plain[turns > 4])
    torch.testing.assert_close(llama3[turns < 1], plain[turns < 1] / 8)
    between = (turns > 1) & (turns < 4)
    assert between.any()
    assert ((llama3 < plain) & (llama3 > plain / 8))[between].all()


@torch.no_grad()
def test_only_distances_matter_to_a_single_layer_of_attention():
    model = perturbed(ARCHITECTURE, LlamaConfig(**SMALL | {"depth": 1}))
    attend, x = model.blocks[0].attn.double(), torch.randn(1, 6, 32).double()
    angle = torch.arange(26.0)[:, None] * rope_frequencies(model.config, x.device)
    here, there = (attend(x, angle[s : s + 6].double().cos(), angle[s : s + 6].double().sin()) for s in (0, 20))
    torch.testing.assert_close(here, there, rtol=1e-5, atol=1e-5)


def test_half_precision_does_not_blur_positions():
    model = perturbed(ARCHITECTURE, LlamaConfig(**SMALL | {"max_seq_len": 4096})).bfloat16()
    near, far = torch.randint(50, (1, 4096)), torch.randint(50, (1, 4096))
    far[:, -2:] = near[:, -2:]
    state = model.state_dict()
    assert all(tensor.dtype == torch.bfloat16 for tensor in state.values())  # no table of angles among them
    assert not torch.equal(model(near)[:, -1], model(far)[:, -1])


def test_more_tokens_than_the_context_are_refused():
    model = perturbed(ARCHITECTURE, LlamaConfig(**SMALL))
    assert model(torch.zeros(1, 32, dtype=torch.int64)).shape == (1, 32, 50)
    with pytest.raises(ValueError, match=r"33 tokens, .* are more than max_seq_len 32; shorten"):
        model(torch.zeros(1, 33, dtype=torch.int64))
    with pytest.raises(ValueError, match="40 tokens"):
        model.generate(torch.zeros(1, 30, dtype=torch.int64), 10)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_kv_heads": 3}, "num_heads 4 is not divisible by num_kv_heads 3"),
        ({"dim": 36}, "dim 36 is not divisible by 2"),
        ({"rope_scaling": "yarn"}, "rope_scaling 'yarn' is not among none, linear, llama3"),
        ({"rope_factor": 0.0}, "rope_factor 0.0 is not positive"),
        ({"rope_factor": 2.0}, "rope_factor 2.0 does nothing with rope_scaling 'none'; make it 1, or set the scaling"),
        ({"norm_eps": -1.0}, "norm_eps -1.0 is not positive"),
        ({"rope_low_freq_factor": 4.0}, "rope_high_freq_factor 4.0 is not above"),
        ({"depth": 0}, "depth 0 is below 1"),
    ],
    ids=str,
)
def test_a_config_that_contradicts_itself_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        LlamaConfig(**SMALL | change)
