"""Contrast: the whole global batch is the rivals, however it is cut, and the whole split is what is searched."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from peer_libraries import imported
from test_resume import Crash, crash_at, final
from torch.nn import functional as F
from towers import PROMPTS, Towers, captioned, contrast, pictured
from toys import Classify, Net, difference, trainer

from zoo.config import ConfigError
from zoo.training import everyone
from zoo.training.data import Spec
from zoo.training.data.loader import Microbatch
from zoo.training.distributed import World
from zoo.training.objectives import Context, contrastive, suited
from zoo.training.objectives.contrastive import Contrastive, ContrastiveConfig
from zoo.training.random import Rows
from zoo.training.retrieval import recalls
from zoo.training.run import TrainerConfig
from zoo.training.state import State
from zoo.training.update import update

LOSSES = ["softmax", "sigmoid"]
CPU = torch.device("cpu")
CTX = Context(0, Rows(0, "", [(0, row) for row in range(12)], CPU), training=True)


def gradients(model, objective, batch, parts):
    """The gradient of one update whose batch is cut into so many parts, by parameter name."""
    run = contrast(model, batch_size=len(batch["tokens"]) // parts, accumulate=parts)
    world = World(0, 1, CPU)
    state = State(model, objective, run.config, world)
    state.train_mode()
    state.remember_buffers()
    rows = len(batch["tokens"]) // parts
    cut = [
        Microbatch(
            [(0, row) for row in range(k * rows, k * rows + rows)],
            {n: t[k * rows : k * rows + rows] for n, t in batch.items()},
        )
        for k in range(parts)
    ]
    outcome = update(state, objective, objective.phases()[0], cut, TrainerConfig(steps=1), world)
    loss = outcome.terms["contrast"][0] / outcome.terms["contrast"][1]
    return loss, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def by_hand(model, batch, loss):
    """The loss's definition, of all pairs at once, and its gradients."""
    logits = model.logit_scale.exp() * model.encode_image(batch["image"]) @ model.encode_text(batch["tokens"]).T
    if loss == "sigmoid":
        signs = 2 * torch.eye(len(logits)) - 1
        value = -F.logsigmoid(signs * (logits + model.logit_bias)).sum() / len(logits)
    else:
        value = -(logits.log_softmax(1).diagonal() + logits.log_softmax(0).diagonal()).mean() / 2
    found = torch.autograd.grad(value, list(model.parameters()))
    return value.detach(), dict(zip((n for n, _ in model.named_parameters()), found, strict=True))


@pytest.mark.parametrize("parts", [1, 3, 12])
@pytest.mark.parametrize("loss", LOSSES)
def test_every_part_s_gradient_adds_up_to_that_of_the_whole_batch(loss, parts):
    model, batch = Towers(bias=loss == "sigmoid"), captioned(12, 3).tensors
    expected_loss, expected = by_hand(model, batch, loss)
    objective = Contrastive(ContrastiveConfig(loss=loss), pictured().spec)
    found_loss, found = gradients(model, objective, batch, parts)
    assert found.keys() == expected.keys()
    torch.testing.assert_close(found_loss, expected_loss)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-6, rtol=1e-5, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize(
    ("place", "name", "bug"),
    [
        (contrastive, "_shared", lambda value, share: value),
        (everyone, "_known", lambda ctx, whole, start: replace(ctx, everyone=lambda features: (whole, 0))),
        (everyone, "_known", lambda ctx, whole, start: ctx),
    ],
    ids=["a_scale_that_every_part_counts", "a_part_at_another_s_place", "a_part_that_knows_itself_alone"],
)
def test_a_bug_would_be_noticed(monkeypatch, place, name, bug):
    test_every_part_s_gradient_adds_up_to_that_of_the_whole_batch("softmax", 3)
    monkeypatch.setattr(place, name, bug)
    with pytest.raises(AssertionError):
        test_every_part_s_gradient_adds_up_to_that_of_the_whole_batch("softmax", 3)


def peer_loss(loss, image, text, scale, bias):
    losses = imported("open_clip.loss")
    return (losses.SigLipLoss() if loss == "sigmoid" else losses.ClipLoss())(image, text, scale, bias)


@pytest.mark.peers
@pytest.mark.parametrize("loss", LOSSES)
def test_loss_and_gradients_are_open_clip_s(loss):
    model, batch = Towers(bias=True), captioned(12, 3).tensors
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    features = model.encode_image(batch["image"]), model.encode_text(batch["tokens"])
    theirs = peer_loss(loss, *features, model.logit_scale.exp(), model.logit_bias)
    expected = torch.autograd.grad(theirs, list(model.parameters()))
    objective = Contrastive(ContrastiveConfig(loss=loss), pictured().spec)
    term = objective.loss(objective.phases()[0], {"model": model}, batch, CTX).terms["contrast"]
    found = torch.autograd.grad(term[0] / term[1], list(model.parameters()))
    torch.testing.assert_close(term[0] / term[1], theirs)
    for mine, other in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-6, rtol=1e-5)


def test_smoothed_labels_are_those_of_cross_entropy():
    model, batch = Towers(), captioned(12, 3).tensors
    objective = Contrastive(ContrastiveConfig(label_smoothing=0.2), pictured().spec)
    term = objective.loss(objective.phases()[0], {"model": model}, batch, CTX).terms["contrast"]
    logits, own = model(batch["image"], batch["tokens"]).logits_per_image, torch.arange(12)
    sides = [F.cross_entropy(scores, own, label_smoothing=0.2) for scores in (logits, logits.T)]
    torch.testing.assert_close(term[0] / 12, (sides[0] + sides[1]) / 2)


@pytest.mark.parametrize("texts", [False, True], ids=["images", "texts"])
@pytest.mark.parametrize("loss", LOSSES)
def test_accumulation_replaces_a_larger_batch(loss, texts):
    data = pictured(texts)

    def model():
        return Towers(bias=loss == "sigmoid", reads=texts)

    whole = contrast(model(), data, loss, batch_size=16).fit().model
    for size, parts in ((4, 4), (8, 2)):
        cut = contrast(model(), data, loss, batch_size=size, accumulate=parts).fit().model
        assert difference(whole, cut) < 1e-6
    alone = contrast(model(), data, loss, batch_size=4).fit().model
    assert difference(whole, alone) > 1e-3


class Seen(Contrastive):
    """The objective, which remembers what each part's features are and were said to be."""

    def __init__(self, options, spec):
        super().__init__(options, spec)
        self.seen = []

    def loss(self, phase, nets, batch, ctx):
        def everyone(features):
            whole, start = ctx.everyone(features)
            rows = slice(start, start + len(features["text"]))
            self.seen += [(features[side].detach(), whole[side][rows]) for side in features]
            return whole, start

        return super().loss(phase, nets, batch, Context(ctx.step, ctx.rows, ctx.training, everyone))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"precision": "bf16"},
        {"gradient_checkpointing": True},
        {"ema": 0.9},
        pytest.param({"compile": True}, marks=pytest.mark.slow),
    ],
    ids=lambda options: "".join(options) or "plain",
)
def test_the_first_pass_sees_what_the_second_sees_dropout_included(options):
    data = pictured()
    objective = Seen(ContrastiveConfig(), data.spec)
    model = Towers(norm=True, dropout=0.4)
    trainer(model, data, objective, batch_size=4, accumulate=3, steps=2, **options).fit()
    assert len(objective.seen) == 2 * 3 * 2
    for own, told in objective.seen:
        torch.testing.assert_close(own, told, atol=1e-6, rtol=0)
    assert model.norm.num_batches_tracked == 2 * 3


def test_bf16_changes_weights_little_and_accumulation_then_nothing_more():
    whole, cut = (contrast(batch_size=size, accumulate=16 // size, precision="bf16").fit().model for size in (16, 4))
    assert difference(whole, cut) < 2e-2


def test_batch_statistics_count_each_part_once():
    model = Towers(norm=True)
    expected = Towers(norm=True)
    starts = []
    model.norm.register_forward_pre_hook(
        lambda module, given: starts.append(given[0].detach().clone()) if module.training else None
    )
    contrast(model, batch_size=4, accumulate=2, steps=1).fit()
    assert len(starts) == 4
    assert torch.equal(torch.stack(starts[:2]), torch.stack(starts[2:]))
    expected.norm.train()
    for rows in starts[2:]:
        expected.norm(rows)
    assert torch.equal(model.norm.running_mean, expected.norm.running_mean)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_only_what_is_contrasted_under_accumulation_is_computed_twice(accumulate):
    calls = {"plain": 0, "contrast": 0}

    def count(name):
        def hook(module, given):
            calls[name] += module.training

        return hook

    plain, towers = Net(), Towers()
    plain.register_forward_pre_hook(count("plain"))
    towers.register_forward_pre_hook(count("contrast"))
    trainer(plain, batch_size=4, accumulate=accumulate, steps=3).fit()
    contrast(towers, batch_size=4, accumulate=accumulate, steps=3).fit()
    assert calls["plain"] == 3 * accumulate
    assert calls["contrast"] == 3 * (1 if accumulate == 1 else 4)
    assert not Classify.embed(None, None, None, None, None)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_resumed_run_is_the_run_that_never_stopped(tmp_path, accumulate):
    options = {"batch_size": 4, "accumulate": accumulate, "steps": 13, "checkpoint_every": 4, "ema": 0.9}

    def make(out):
        return contrast(Towers(norm=True, dropout=0.3), out=tmp_path / out, **options)

    make("whole").fit()
    with pytest.raises(Crash):
        crash_at(make("cut"), 6).fit()
    make("cut").fit(resume=True)
    whole, cut = final(tmp_path / "whole"), final(tmp_path / "cut")
    assert {name for name in whole if not torch.equal(whole[name], cut[name])} == set()


def test_the_scale_is_put_back_to_a_hundred_and_can_fall_again():
    model = Towers(scale=150.0)
    result = contrast(model, steps=1, optimizer={"lr": 1e-5}, ema=0.5).fit()
    assert model.logit_scale.item() == pytest.approx(math.log(100))
    free = contrast(Towers(scale=90.0), steps=1, optimizer={"lr": 1e-5}).fit().model
    assert 85 < free.logit_scale.exp().item() < 95
    low = contrast(Towers(scale=150.0), steps=9, optimizer={"lr": 0.05}, schedule="constant").fit().model
    assert low.logit_scale.item() < math.log(99)
    assert result.model.logit_scale.item() < math.log(150)


class Told(Towers):
    """Towers that remember what went into which."""

    def forward(self, image, tokens):
        self.told = (image, tokens)
        return super().forward(image, tokens)


def test_the_first_text_goes_where_images_go_and_its_partner_into_the_text_tower():
    model, batch = Told(reads=True), captioned(12, 0, texts=True).tensors
    objective = Contrastive(ContrastiveConfig(), pictured(texts=True).spec)
    objective.loss(objective.phases()[0], {"model": model}, batch, CTX)
    assert torch.equal(model.told[0], batch["tokens"])
    assert torch.equal(model.told[1], batch["pair_tokens"])


def test_what_does_not_fit_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match="needs image and tokens, or tokens and pair_tokens; the data give tokens"):
        Contrastive(ContrastiveConfig(), Spec(keys=("tokens",)))
    with pytest.raises(ConfigError, match=r"sigmoid needs a logit_bias, .* take objective\.loss=softmax"):
        contrast(Towers(), loss="sigmoid").fit()
    headless = Towers()
    del headless.logit_scale
    with pytest.raises(ConfigError, match="learns a logit_scale, which Towers lacks"):
        contrast(headless).fit()
    for vision, data, match in (
        ("vit", pictured(texts=True), r"vision 'vit', but the data are pairs of texts; set model\.vision=text"),
        ("text", pictured(), r"vision 'text', but the data are images; set model\.vision=vit"),
    ):
        towers = Towers()
        towers.config = SimpleNamespace(vision=vision)
        with pytest.raises(ConfigError, match=match):
            Contrastive(ContrastiveConfig(), data.spec).build(towers)
    with pytest.raises(ValueError, match="is for loss softmax"):
        ContrastiveConfig(loss="sigmoid", label_smoothing=0.1)
    with pytest.raises(ValueError, match=r"label_smoothing 1\.0 is not in \[0, 1\)"):
        ContrastiveConfig(label_smoothing=1.0)


def test_two_towers_are_trained_by_contrast_whatever_their_pairs_are():
    task = "zero-shot-image-classification"
    assert suited(task, Spec(keys=("image", "tokens", "target"), num_classes=3)) == "contrastive"
    assert suited(task, Spec(keys=("tokens", "mask", "pair_tokens", "pair_mask"))) == "contrastive"
    assert suited("fill-mask", Spec(keys=("tokens", "mask", "pair_tokens", "pair_mask"))) == "sentence_embedding"


@pytest.mark.parametrize("loss", LOSSES)
def test_what_is_measured_is_the_split_s_whatever_the_batch_size(loss):
    data = pictured(prompts=True)
    found = [contrast(data=data, loss=loss, eval_batch_size=size).evaluate() for size in (1, 4, 31)]
    assert {"loss", "accuracy", "recall@1", "recall@5", "recall@10", "back_recall@1", "median_rank"} <= found[0].keys()
    for other in found[1:]:
        assert other == pytest.approx(found[0], rel=1e-5)
    model, batch = Towers(bias=loss == "sigmoid").eval(), data.test.tensors
    expected, _ = by_hand(model, batch, loss)
    assert found[0]["loss"] == pytest.approx(float(expected), rel=1e-5)
    with torch.no_grad():
        searched = recalls(model.encode_image(batch["image"]), model.encode_text(batch["tokens"]))
    assert {name: found[0][name] for name in searched} == pytest.approx(searched, rel=1e-5)


def test_a_class_is_the_normalised_mean_of_its_descriptions_normalised():
    data = pictured(prompts=True)
    run = contrast(data=data, steps=40)
    assert run.objective.headline == "accuracy"
    assert contrast().objective.headline == "recall@1"
    before = run.evaluate()["accuracy"]
    after = run.fit().metrics["accuracy"]
    model, batch = run.model.eval(), data.test.tensors
    vectors = [torch.stack([model.encode_text(torch.tensor([text]))[0] for text in texts]) for texts in PROMPTS]
    classes = F.normalize(torch.stack([of_class.mean(0) for of_class in vectors]), dim=-1)
    right = (model.encode_image(batch["image"]) @ classes.T).argmax(1) == batch["target"]
    assert after == pytest.approx(float(right.float().mean()))
    assert after > max(before, 0.6)


def test_training_by_contrast_lets_pairs_find_each_other():
    data = pictured(texts=True)
    before = contrast(Towers(reads=True), data).evaluate()
    after = contrast(Towers(reads=True), data, steps=150, batch_size=16).fit().metrics
    assert after["recall@5"] > 2 * before["recall@5"]
    assert after["back_recall@5"] > 0.5
