"""T5 is transformers' network, from its folders too: logits, gradients, texts, and the file that is written back."""

import json
import math

import pytest
import torch
from comparison import largest_difference, perturbed
from laws import build
from safetensors.torch import load_file, save_file

import zoo
from zoo.architectures.t5 import ARCHITECTURE, RelativePosition, T5Config
from zoo.convert import foreign_tensors
from zoo.convert.t5 import read_config

SIZES = {
    "vocab_size": 101, "d_model": 32, "d_kv": 6, "d_ff": 48, "num_layers": 3, "num_heads": 4,
    "relative_attention_num_buckets": 8, "relative_attention_max_distance": 20,
}  # fmt: skip
VERSIONS = {"1.0": {}, "1.1": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}}
SMALL = T5Config(vocab_size=500, dim=64, depth=3, num_heads=4, head_dim=16, mlp_dim=128, dropout=0.0)


@pytest.fixture(scope="module", params=VERSIONS, ids=str)
def pair(request, tmp_path_factory):
    """A network of transformers with weights in which nothing is zero or one any more, its folder, and ours."""
    theirs = peer(VERSIONS[request.param])
    folder = tmp_path_factory.mktemp("peer")
    theirs.save_pretrained(folder)
    return theirs, folder, zoo.create(f"local-dir:{folder}").eval()


def peer(options):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    model = transformers.T5ForConditionalGeneration(transformers.T5Config(**SIZES, **options)).eval()
    if not model.config.scale_decoder_outputs:  # transformers 5 ties what the released files of 1.1 do not
        model.lm_head.weight = torch.nn.Parameter(model.shared.weight.detach().clone())
    return perturbed(model)


def texts(batch=3, seq=30, seed=1):
    """Long enough for each class of distances."""
    return torch.randint(2, SIZES["vocab_size"], (batch, seq), generator=torch.Generator().manual_seed(seed))


def padding(source):
    """The second text has 5 tokens less, the third 11."""
    lengths = torch.tensor([0, 5, 11]).neg() + source.shape[1]
    return torch.arange(source.shape[1]) < lengths[:, None]


def outputs(theirs, ours, mask):
    source, tokens = texts(), texts(seq=25, seed=2)
    mask = padding(source) if mask else None
    expected = theirs(
        input_ids=source, decoder_input_ids=tokens, attention_mask=None if mask is None else mask.long()
    ).logits
    return ours(source, tokens, mask), expected


each_mask = pytest.mark.parametrize("mask", [False, True], ids=["full", "padded"])


@pytest.mark.peers
@each_mask
@torch.no_grad()
def test_logits_are_the_peer_s(pair, mask):
    theirs, _, ours = pair
    assert ours.load_report.format == "transformers"
    assert largest_difference(*outputs(theirs, ours, mask)) < 2e-5


@pytest.mark.peers
@each_mask
def test_gradients_are_the_peer_s(pair, mask):
    theirs, _, ours = pair
    for model in (ours, theirs):
        model.zero_grad()
    for logits in outputs(theirs, ours, mask):
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), texts(seq=25, seed=3).flatten()).backward()
    model = build(ARCHITECTURE, ours.config)
    model.load_state_dict({name: p.grad for name, p in ours.named_parameters()})  # they travel the way of the weights
    found = foreign_tensors(model, "transformers")
    expected = {name: p.grad for name, p in theirs.named_parameters()}
    assert expected.keys() == found.keys()
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm() / gradient.norm() < 1e-4, name


@pytest.mark.peers
@each_mask
@torch.no_grad()
def test_greedy_texts_are_the_peer_s_token_for_token(pair, mask):
    theirs, _, ours = pair
    source = texts()
    mask = padding(source) if mask else torch.ones_like(source, dtype=torch.bool)
    expected = theirs.generate(
        input_ids=source, attention_mask=mask.long(), max_new_tokens=20, do_sample=False, decoder_start_token_id=0
    )
    assert torch.equal(ours.generate(source, 20, source_mask=mask), expected[:, 1:])


@pytest.mark.peers
def test_export_returns_the_same_keys_and_bits(pair, tmp_path):
    _, folder, ours = pair
    stored = load_file(folder / "model.safetensors")
    written = load_file(zoo.export_weights(ours, tmp_path / "out.safetensors", format="transformers"))
    assert written.keys() == stored.keys()
    assert all(written[name].dtype == t.dtype and torch.equal(written[name], t) for name, t in stored.items())


@pytest.mark.peers
@torch.no_grad()
def test_copies_and_a_table_nobody_reads_in_old_files_are_understood(pair, tmp_path):
    _, folder, ours = pair
    stored = load_file(folder / "model.safetensors")
    unread = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
    names = ["encoder.embed_tokens.weight", "decoder.embed_tokens.weight"]
    names += ["lm_head.weight"] if ours.config.tie_embeddings else []
    old = stored | {name: stored["shared.weight"].clone() for name in names} | {unread: torch.randn(8, 4)}
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    save_file(old, tmp_path / "model.safetensors")
    again = zoo.create(f"local-dir:{tmp_path}").eval()
    assert again.load_report.ignored == (unread,)
    assert torch.equal(again(texts(), texts()), ours(texts(), texts()))
    save_file(old | {names[-1]: old[names[-1]] + 1}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"differs from shared\.weight"):
        zoo.create(f"local-dir:{tmp_path}")


@pytest.mark.peers
@torch.no_grad()
def test_a_version_1_1_that_scores_by_its_embedding_is_read_as_transformers_reads_it(tmp_path):
    transformers = pytest.importorskip("transformers")
    theirs = perturbed(transformers.T5ForConditionalGeneration(transformers.T5Config(**SIZES, **VERSIONS["1.1"])))
    theirs.eval().save_pretrained(tmp_path)  # as transformers 5 makes and stores them
    assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")
    ours = zoo.create(f"local-dir:{tmp_path}").eval()
    assert largest_difference(*outputs(theirs, ours, mask=False)) < 2e-5
    assert torch.equal(ours.head.weight, ours.embed.weight)
    assert ours.head.weight is not ours.embed.weight


@pytest.mark.peers
@torch.no_grad()
def test_a_released_version_1_1_keeps_its_own_head(tmp_path):
    theirs = peer(VERSIONS["1.1"])
    theirs.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    released = {name: config[name] for name in config.keys() - {"scale_decoder_outputs", "dense_act_fn"}}
    (tmp_path / "config.json").write_text(json.dumps(released | {"tie_word_embeddings": False}))
    ours = zoo.create(f"local-dir:{tmp_path}").eval()
    assert not torch.equal(ours.head.weight, ours.embed.weight)
    assert largest_difference(*outputs(theirs, ours, mask=False)) < 2e-5


@pytest.mark.peers
@pytest.mark.parametrize("causal", [False, True], ids=["encoder", "decoder"])
@pytest.mark.parametrize(("count", "most"), [(32, 128), (8, 20), (4, 3), (64, 1000)])
def test_distances_have_the_peer_s_classes(causal, count, most):
    modeling = pytest.importorskip("transformers.models.t5.modeling_t5")
    config = T5Config(num_buckets=count, max_distance=most)
    ahead = torch.arange(-2500, 2501)[None]
    expected = modeling.T5Attention._relative_position_bucket(ahead, not causal, count, most)
    assert torch.equal(RelativePosition(config, causal=causal).buckets(ahead), expected)


HUB = {  # what the files on the Hub say, as far as it tells one network from another
    "t5_small": {"d_ff": 2048, "d_model": 512, "num_heads": 8, "num_layers": 6},
    "t5_large": {"d_ff": 4096, "d_model": 1024, "num_heads": 16, "num_layers": 24, "decoder_start_token_id": 0},
    "t5_v1_1_small": {
        "d_ff": 1024, "d_model": 512, "num_heads": 6, "num_layers": 8, "num_decoder_layers": 8,
        "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False,
    },
}  # fmt: skip


@pytest.mark.parametrize("preset", HUB)
def test_a_config_on_the_hub_is_the_preset(preset):
    theirs = {"model_type": "t5", "d_kv": 64, "vocab_size": 32128, "pad_token_id": 0, "eos_token_id": 1} | HUB[preset]
    assert T5Config(**read_config(theirs)) == ARCHITECTURE.preset(preset)


@pytest.mark.parametrize(("start", "token"), [({"decoder_start_token_id": 0}, 0), ({}, 5)], ids=["given", "silent"])
def test_texts_start_as_the_config_says_or_else_with_padding(start, token):
    assert read_config({"pad_token_id": 5, **start})["start_token"] == token


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dense_act_fn": "silu"}, "dense_act_fn is 'silu', and this architecture knows only 'relu'"),
        ({"feed_forward_proj": "gated-gelu", "dense_act_fn": "relu"}, "dense_act_fn is 'relu', .* only 'gelu_new'"),
        ({"is_gated_act": True}, "is_gated_act is True, and this architecture knows only False"),
        ({"feed_forward_proj": "gated-silu"}, "feed_forward_proj is 'gated-silu', and .* 'relu' or 'gated-gelu'"),
        ({"num_decoder_layers": 2}, "num_decoder_layers is 2, and .* knows only None or 6"),
        ({"relative_attention_max_distance": 8}, "max_distance 8 must be above 16, half of num_buckets"),
    ],
    ids=str,
)
def test_a_config_that_ours_cannot_be_is_refused(tmp_path, change, message):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "t5", "num_layers": 6, **change}))
    with pytest.raises(ValueError, match=message):
        zoo.create(f"local-dir:{tmp_path}")


@pytest.mark.parametrize("tie", [True, False], ids=["tied", "own head"])
def test_a_fresh_model_knows_nothing(tie):
    model = build(ARCHITECTURE, T5Config(**vars(SMALL) | {"tie_embeddings": tie, "gated": not tie})).eval()
    source, tokens = torch.randint(500, (16, 60)), torch.randint(500, (16, 60))
    logits = model(source, tokens)
    assert logits.std().item() == pytest.approx(1, rel=0.1)
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.randint(500, (960,)))
    assert loss.item() == pytest.approx(math.log(500) + 1 / 2, rel=0.05)  # log E exp of a standard normal is 1/2


def test_attention_starts_with_scores_of_order_one():
    model = build(ARCHITECTURE, SMALL).eval()
    x = torch.nn.functional.normalize(torch.randn(200, 64), dim=-1) * 8
    attn = model.encoder.blocks[0].attn
    scores = attn._heads(attn.query(x[None])) @ attn._heads(attn.key(x[None])).mT
    assert scores.std().item() == pytest.approx(1, rel=0.2)


@pytest.mark.parametrize("place", ["embedding", "attention", "hidden", "attn", "cross", "mlp", "encoder", "decoder"])
def test_dropout_acts_where_the_code_has_it(place):
    model = build(ARCHITECTURE, T5Config(**vars(SMALL)))
    block, seen = model.decoder.blocks[0], []
    modules = {
        "embedding": model.decoder, "attention": block.attn, "hidden": block.mlp, "attn": block.attn,
        "cross": block.cross, "mlp": block.mlp, "encoder": model.encoder, "decoder": model.decoder,
    }  # fmt: skip
    modules[place].dropout.p = 0.5
    if place == "embedding":
        block.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    elif place in ("attention", "hidden"):
        modules[place].proj.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    else:
        modules[place].register_forward_hook(lambda _, __, output: seen.append(output))
    source, tokens = torch.randint(500, (2, 20)), torch.randint(500, (2, 20))
    for train in (True, True, False, False):
        model.train(train)(source, tokens)
    assert not torch.equal(seen[0], seen[1])
    assert torch.equal(seen[2], seen[3])
    if place not in ("attention", "hidden"):
        assert (seen[0] == 0).float().mean().item() == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 0}, "depth 0 is below 1"),
        ({"num_buckets": 7}, "num_buckets 7 must be even"),
        ({"max_distance": 16}, "max_distance 16 must be above 16"),
        ({"dropout": 1.0}, r"dropout 1.0 is not in \[0, 1\)"),
        ({"norm_eps": -1.0}, "norm_eps -1.0 is not positive"),
        ({"stop_token": 32128}, r"stop_token 32128 is not in \[0, 32128\)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_sizes_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        T5Config(**options)
