"""BERT is transformers' network, old files included; it starts as published, learns, and refuses what does not fit."""

import json
import math

import pytest
import torch
import torch.nn.functional as F
from comparison import largest_difference
from laws import build, differ, perturbed
from safetensors.torch import load_file, save_file

import zoo
from zoo.architectures.bert import ARCHITECTURE, BertConfig
from zoo.convert import foreign_tensors, peers
from zoo.pipelines import embed

SIZES = {"vocab_size": 101, "max_seq_len": 40, "dim": 48, "depth": 3, "num_heads": 4, "mlp_dim": 80}
SMALL = BertConfig(**SIZES, num_segments=3, dropout=0.2, attn_dropout=0.3, norm_eps=1e-3)
OLD = {
    "vocab_size": "vocab_size", "max_position_embeddings": "max_seq_len", "hidden_size": "dim",
    "num_hidden_layers": "depth", "num_attention_heads": "num_heads", "intermediate_size": "mlp_dim",
}  # fmt: skip
THEIRS = OLD | {
    "type_vocab_size": "num_segments", "hidden_dropout_prob": "dropout", "attention_probs_dropout_prob": "attn_dropout",
    "layer_norm_eps": "norm_eps",
}  # fmt: skip
KINDS = {  # a name for the case: transformers' class, its arguments, and what ours is asked for besides
    "words": ("BertForMaskedLM", {}, {}),
    "classes": ("BertForSequenceClassification", {}, {}),
    "encoder": ("BertModel", {"add_pooling_layer": False}, {}),
    "pooler": ("BertModel", {}, {"head": "pooler"}),
}


@pytest.fixture(scope="module", params=KINDS, ids=str)
def pair(request, tmp_path_factory):
    """A network of transformers, its folder, and ours."""
    name, arguments, options = KINDS[request.param]
    theirs, folder = saved(tmp_path_factory.mktemp("peer"), name, **arguments)
    return theirs, folder, zoo.create(f"local-dir:{folder}", **options).eval()


def config_of(ours):
    """The same for transformers."""
    transformers = pytest.importorskip("transformers")
    return transformers.BertConfig(**{their: getattr(ours, our) for their, our in THEIRS.items()}, num_labels=5)


def saved(folder, name="BertForMaskedLM", **arguments):
    """A network of transformers with weights in which nothing is zero or one any more, and its folder."""
    torch.manual_seed(0)
    model = getattr(pytest.importorskip("transformers"), name)(config_of(SMALL), **arguments).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn_like(parameter)  # so much that exact and approximate GELU differ
    model.save_pretrained(folder)
    return model, folder


def texts():
    """Pairs of sentences of different lengths, padded."""
    tokens = torch.randint(1, 101, (4, 23), generator=torch.Generator().manual_seed(1))
    mask = torch.arange(23) < torch.tensor([23, 9, 1, 17])[:, None]
    segments = (torch.arange(23) > torch.tensor([11, 4, 0, 22])[:, None]).long()
    return {"tokens": tokens, "mask": mask, "segments": segments}


def answer(theirs, inputs):
    """What transformers' network says to our inputs."""
    names = {"tokens": "input_ids", "mask": "attention_mask", "segments": "token_type_ids"}
    return theirs(**{names[key]: value for key, value in inputs.items()})


def final(theirs, output):
    """Of an answer that which our forward gives."""
    if hasattr(output, "logits"):
        return output.logits
    return output.last_hidden_state if theirs.pooler is None else output.pooler_output


def at_tokens(output, mask):
    return output[mask] if output.shape[:2] == mask.shape else output


@pytest.mark.peers
@torch.no_grad()
@pytest.mark.parametrize("given", [("tokens",), ("tokens", "mask"), ("tokens", "mask", "segments")], ids="+".join)
def test_hidden_states_and_answers_are_the_peer_s(pair, given):
    theirs, _, ours = pair
    inputs = {key: value for key, value in texts().items() if key in given}
    mask = inputs.get("mask", torch.ones(4, 23, dtype=torch.bool))
    hidden = answer(theirs.base_model, inputs).last_hidden_state
    assert largest_difference(ours.encode(**inputs)[mask], hidden[mask]) < 2e-5
    expected = at_tokens(final(theirs, answer(theirs, inputs)), mask)
    assert largest_difference(at_tokens(ours(**inputs), mask), expected) < 2e-5


@pytest.mark.peers
def test_gradients_are_the_peer_s(pair):
    theirs, _, ours = pair
    inputs = texts()
    for model in (ours, theirs):
        model.zero_grad()
        output = ours(**inputs) if model is ours else final(theirs, answer(theirs, inputs))
        output = at_tokens(output, inputs["mask"])
        (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
    model = zoo.create(ours.config, device="cpu")
    model.load_state_dict({name: parameter.grad for name, parameter in ours.named_parameters()})
    found = foreign_tensors(model, "transformers")  # gradients travel the way of the weights
    expected = {name: p.grad for name, p in theirs.named_parameters()}
    assert expected.keys() == found.keys()
    error = sum((found[name] - gradient).square().sum() for name, gradient in expected.items()).sqrt()
    assert error / sum(gradient.square().sum() for gradient in expected.values()).sqrt() < 1e-4


@pytest.mark.peers
def test_export_returns_the_same_keys_and_bits(pair, tmp_path):
    _, folder, ours = pair
    stored = load_file(folder / "model.safetensors")
    written = load_file(zoo.export_weights(ours, tmp_path / "out.safetensors", format="transformers"))
    assert ours.load_report.format == "transformers"
    assert written.keys() == stored.keys()
    assert all(written[name].dtype == t.dtype and torch.equal(written[name], t) for name, t in stored.items())


@pytest.mark.peers
def test_prefixes_may_be_missing_or_added_and_norms_have_their_old_names(pair, tmp_path):
    _, folder, ours = pair
    stored = load_file(folder / "model.safetensors")
    added = not any(name.startswith("bert.") for name in stored)
    old = {}
    for name, tensor in stored.items():
        name = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        old[f"bert.{name}" if added else name.removeprefix("bert.")] = tensor
    old["bert.embeddings.position_ids" if added else "embeddings.position_ids"] = torch.arange(40)[None]
    rewritten(folder, tmp_path, old)
    model = zoo.create(f"local-dir:{tmp_path}", head=ours.config.head)
    assert all(torch.equal(*tensors) for tensors in zip(model.parameters(), ours.parameters(), strict=True))
    assert len(model.load_report.ignored) == 1


def rewritten(folder, to, tensors, **config):
    """Another folder with the config of this one, and these tensors."""
    theirs = json.loads((folder / "config.json").read_text()) | config
    (to / "config.json").write_text(json.dumps({name: value for name, value in theirs.items() if value is not ...}))
    save_file(tensors, to / "model.safetensors")
    return f"local-dir:{to}"


@pytest.mark.peers
@torch.no_grad()
def test_what_the_original_weights_hold_besides_is_passed_over(tmp_path):
    theirs, folder = saved(tmp_path, "BertForPreTraining")
    stored = load_file(folder / "model.safetensors")
    stored["cls.predictions.decoder.weight"] = stored["bert.embeddings.word_embeddings.weight"].clone()
    stored["cls.predictions.decoder.bias"] = stored["cls.predictions.bias"].clone()
    save_file(stored, folder / "model.safetensors")
    ours = zoo.create("bert", weights=folder).eval()
    beside = ("bert.pooler.dense", "cls.seq_relationship")
    assert set(ours.load_report.ignored) == {f"{name}.{kind}" for name in beside for kind in ("weight", "bias")}
    expected, mask = answer(theirs, texts()).prediction_logits, texts()["mask"]
    assert largest_difference(ours(**texts())[mask], expected[mask]) < 2e-5


@pytest.mark.peers
@pytest.mark.parametrize("copy", ["cls.predictions.decoder.weight", "cls.predictions.decoder.bias"])
def test_a_copy_of_a_tied_tensor_that_differs_is_refused_and_may_stand_alone(tmp_path, copy):
    _, folder = saved(tmp_path)
    stored = load_file(folder / "model.safetensors")
    original = "bert.embeddings.word_embeddings.weight" if copy.endswith("weight") else "cls.predictions.bias"
    save_file({**stored, copy: stored[original] + 1}, folder / "model.safetensors")
    with pytest.raises(ValueError, match=f"{copy} differs from {original}"):
        zoo.create(f"local-dir:{folder}")
    tensor = stored.pop(original)
    save_file({**stored, copy: tensor}, folder / "model.safetensors")
    ours = zoo.create(f"local-dir:{folder}")
    assert torch.equal(ours.head.bias if copy.endswith("bias") else ours.embed.token.weight, tensor)


@pytest.mark.peers
@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "drawn"),
    [("BertForMaskedLM", 4), ("BertForPreTraining", 2), ("BertModel", 2), ("BertForSequenceClassification", 2)],
)
def test_any_file_gives_its_encoder_alone_or_under_a_new_classifier(tmp_path, name, drawn):
    theirs, folder = saved(tmp_path, name)
    ours = zoo.create(f"local-dir:{folder}", num_classes=7).eval()
    assert len(ours.load_report.adapted) == drawn
    body, mask = theirs.base_model, texts()["mask"]
    hidden = answer(body, texts()).last_hidden_state[mask]
    assert largest_difference(ours.encode(**texts())[mask], hidden) < 2e-5
    assert ours(**texts()).shape == (4, 7)
    assert body.pooler is None or torch.equal(ours.head.pooler.proj.weight, body.pooler.dense.weight)
    alone = zoo.create("bert", weights=folder / "model.safetensors", **{**vars(SMALL), "head": "none"})
    assert torch.equal(alone.eval()(**texts()), ours.encode(**texts()))


@pytest.mark.peers
@pytest.mark.parametrize(
    ("config", "num_classes"),
    [
        ({}, 5),
        ({"id2label": {"0": "no", "1": "yes", "2": "perhaps"}}, 3),
        ({"id2label": ..., "label2id": ...}, 2),
        ({"id2label": ..., "label2id": ..., "num_labels": 4}, 4),
    ],
    ids=str,
)
def test_labels_say_how_many_classes_there_are(tmp_path, config, num_classes):
    _, folder = saved(tmp_path, "BertForSequenceClassification")
    stored = load_file(folder / "model.safetensors")
    cut = {name: stored[name][:num_classes].clone() for name in ("classifier.weight", "classifier.bias")}
    found = zoo.create(rewritten(folder, tmp_path, stored | cut, **config))
    labels = ("no", "yes", "perhaps") if num_classes == 3 else ()
    assert (found.config.num_classes, found.provenance.labels) == (num_classes, labels)


@pytest.mark.peers
def test_a_config_of_the_first_release_is_understood(tmp_path):
    _, folder = saved(tmp_path)
    assert zoo.config(f"local-dir:{folder}") == SMALL
    rest = dict.fromkeys(json.loads((folder / "config.json").read_text()).keys() - {"model_type", *OLD}, ...)
    assert zoo.config(rewritten(folder, tmp_path, {}, **rest)) == BertConfig(**SIZES)


@pytest.mark.peers
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key'"),
        ({"hidden_act": "relu"}, "hidden_act is 'relu', and this architecture knows only 'gelu'"),
        ({"is_decoder": True}, "is_decoder is True"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings is False"),
        ({"architectures": ["BertForQuestionAnswering"]}, "'BertForQuestionAnswering'.* head='none'"),
        ({"hidden_size": 50}, "dim 50 is not divisible by num_heads 4"),
        ({"hidden_size": "wide"}, "dim"),
    ],
    ids=str,
)
def test_a_config_that_ours_cannot_be_is_refused(tmp_path, change, message):
    _, folder = saved(tmp_path)
    place = rewritten(folder, tmp_path, load_file(folder / "model.safetensors"), **change)
    with pytest.raises(ValueError, match=message) as caught:
        zoo.create(place)
    assert str(tmp_path / "config.json") in str(caught.value)


@pytest.mark.peers
@pytest.mark.parametrize(("preset", "name"), peers("bert", "transformers").items())
def test_every_preset_has_the_peer_s_tensors(preset, name):
    ours = zoo.create(preset, device="meta")
    with torch.device("meta"):
        theirs = pytest.importorskip("transformers").BertForMaskedLM(config_of(ours.config))
    found = {their: tensor.shape for their, tensor in foreign_tensors(ours, "transformers").items()}
    assert found == {their: tensor.shape for their, tensor in theirs.named_parameters()}
    assert zoo.config(name) == ours.config


@pytest.mark.peers
@torch.no_grad()
@pytest.mark.parametrize("pooling", ["mean", "first"])
@pytest.mark.parametrize("pooler", [True, False], ids=["with a pooler", "without"])
def test_sentence_embeddings_are_those_by_hand(tmp_path, pooling, pooler):
    theirs, folder = saved(tmp_path, "BertModel", add_pooling_layer=pooler)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"word_embedding_dimension": 48}')
    tokens, mask = texts()["tokens"], texts()["mask"]
    hidden = answer(theirs, {"tokens": tokens, "mask": mask}).last_hidden_state
    counted = mask[..., None].float()
    expected = hidden[:, 0] if pooling == "first" else (hidden * counted).sum(1) / counted.sum(1)
    model = zoo.create(f"local-dir:{folder}")
    assert largest_difference(embed(model, tokens, mask, pooling=pooling, normalize=False), expected) < 2e-5
    unit = expected / expected.square().sum(-1, keepdim=True).sqrt()
    assert largest_difference(embed(model, tokens, mask, pooling=pooling), unit) < 2e-5
    assert model.training
    assert largest_difference(embed(model, tokens[1:2, :9], pooling=pooling), unit[1:2]) < 2e-5


def test_embeddings_are_asked_for_of_texts_alone():
    model = build(ARCHITECTURE)
    tokens, mask = model.example_inputs(2).values()
    mask[1] = False
    with pytest.raises(ValueError, match="row 1 of mask is all padding"):
        embed(model, tokens, mask)
    with pytest.raises(ValueError, match="pooling 'max' is unknown; give mean or first"):
        embed(model, tokens, pooling="max")
    with pytest.raises(ValueError, match="MLP has no encode"):
        embed(zoo.create("mlp"), tokens)


def test_it_learns_texts_by_filling_in_their_words():
    """Texts in which no word tells the next: to know a hidden word, one must recognise the text."""
    model = build(ARCHITECTURE, BertConfig(**vars(ARCHITECTURE.tiny) | {"dim": 32, "mlp_dim": 64, "depth": 1}))
    random = torch.Generator().manual_seed(0)
    texts = torch.randint(1, 64, (8, 16), generator=random).repeat(4, 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, fused=True)
    for step in range(160):
        hidden = torch.rand(texts.shape, generator=random) < 0.2
        logits, truth = model(texts.masked_fill(hidden, 0))[hidden], texts[hidden]
        if step < 150:
            F.cross_entropy(logits, truth).backward()
            optimizer.step()
            optimizer.zero_grad()
        else:
            assert (logits.argmax(-1) == truth).float().mean() > 0.9


def test_a_fresh_model_has_the_published_deviations_and_knows_nothing():
    model = build(ARCHITECTURE, BertConfig(vocab_size=500, dim=128, depth=2, num_heads=2, mlp_dim=512)).eval()
    large = [parameter for parameter in model.parameters() if parameter.numel() > 10_000]
    assert all(parameter.std().item() == pytest.approx(0.02, rel=0.02) for parameter in large)
    tokens = torch.randint(500, (4, 200))
    loss = F.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten())
    assert loss.item() == pytest.approx(math.log(500), rel=0.02)


def test_segments_tell_two_texts_apart():
    model = perturbed(ARCHITECTURE)
    tokens = model.example_inputs(2)["tokens"]
    second = torch.ones_like(tokens)
    assert torch.equal(model(tokens, segments=second - 1), model(tokens))
    assert differ(model(tokens, segments=second), model(tokens))


def test_a_text_that_is_all_padding_spoils_nothing():
    model = perturbed(ARCHITECTURE)
    tokens, mask = model.example_inputs(2).values()
    expected = model(tokens, mask=mask)[0]
    mask[1] = False
    logits = model(tokens, mask=mask)
    logits.sum().backward()
    torch.testing.assert_close(logits[0], expected)
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize(("field", "places"), [("dropout", 1 + 2 * 2 + 1), ("attn_dropout", 2)])
def test_dropout_acts_where_the_paper_has_it(monkeypatch, field, places):
    off = {"dropout": 0.0, "attn_dropout": 0.0, "num_classes": 3}
    model = build(ARCHITECTURE, BertConfig(**vars(ARCHITECTURE.tiny) | off | {field: 0.25}))
    rates, attention = [], F.scaled_dot_product_attention
    monkeypatch.setattr(F, "dropout", lambda x, p, training, inplace: rates.append(p * training) or x)
    monkeypatch.setattr(
        F, "scaled_dot_product_attention", lambda *a, dropout_p: rates.append(dropout_p) or attention(*a)
    )
    for training in (True, False):
        rates.clear()
        model.train(training)(**model.example_inputs(2))
        assert [rate for rate in rates if rate] == ([0.25] * places if training else [])


@pytest.mark.parametrize(
    ("kind", "pooler"),
    [({}, ""), ({"head": "none"}, ""), ({"head": "pooler"}, "head"), ({"num_classes": 7}, "head.pooler")],
    ids=str,
)
def test_reset_classifier_keeps_the_encoder_and_a_pooler(kind, pooler, tmp_path):
    model = perturbed(ARCHITECTURE, BertConfig(**vars(ARCHITECTURE.tiny) | kind))
    inputs, before = model.example_inputs(2), {name: t.clone() for name, t in model.state_dict().items()}
    model.reset_classifier(7)
    after = model.state_dict()
    assert model(**inputs).shape == (2, 7)
    assert all(torch.equal(after[name], t) for name, t in before.items() if not name.startswith("head"))
    assert not pooler or torch.equal(after["head.pooler.proj.weight"], before[f"{pooler}.proj.weight"])
    assert after["head.proj.weight"].abs().max() < 0.2  # drawn anew
    assert torch.equal(zoo.load(zoo.save(model, tmp_path / "it")).eval()(**inputs), model(**inputs))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tokens": torch.zeros(5, dtype=torch.int64)}, r"tokens must be \(batch, seq\) .* got shape \(5,\)"),
        ({"mask": torch.ones(2, 4, dtype=torch.bool)}, r"mask has shape \(2, 4\), but the tokens \(2, 5\)"),
        ({"mask": torch.ones(2, 5)}, r"mask is torch.float32, not bool; mask.bool\(\)"),
        ({"segments": torch.zeros(1, 5, dtype=torch.int64)}, r"segments has shape \(1, 5\), but the tokens \(2, 5\)"),
    ],
    ids=["tokens", "mask", "mask of numbers", "segments"],
)
def test_what_does_not_fit_the_tokens_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        build(ARCHITECTURE)(**{"tokens": torch.zeros(2, 5, dtype=torch.int64), **arguments})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 20, "num_heads": 3}, "dim 20 is not divisible by num_heads 3"),
        ({"depth": 0}, "depth 0 is below 1"),
        ({"attn_dropout": 1.0}, r"attn_dropout 1.0 is not in \[0, 1\)"),
        ({"num_classes": 0}, "num_classes 0 is below 1; head='pooler'"),
        ({"norm_eps": -1.0}, "norm_eps -1.0 is not positive"),
    ],
    ids=str,
)
def test_sizes_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        BertConfig(**options)
