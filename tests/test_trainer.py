"""The loop: what may change without changing the weights, and what each option does."""

import math
import multiprocessing

import pytest
import torch
from torch.nn import functional as F
from toys import Classify, Net, Points, difference, splits, trainer

import zoo
from zoo.config import ConfigError
from zoo.kernels import op
from zoo.training.data import Splits
from zoo.training.data.loader import Order, Plan
from zoo.training.log import read_log
from zoo.training.objectives import Loss, NoOptions, Phase
from zoo.training.run import RunConfig, ScheduleConfig
from zoo.training.schedule import factor


def test_training_learns():
    data = splits(200)
    before = trainer(data=data).evaluate()
    result = trainer(data=data, steps=150).fit()
    assert result.metrics["loss"] < before["loss"] / 2
    assert result.metrics["accuracy"] > 0.85


def test_the_same_seed_gives_the_same_bits_and_another_seed_others():
    first = trainer(Net(dropout=0.5), seed=1).fit().model
    assert difference(first, trainer(Net(dropout=0.5), seed=1).fit().model) == 0
    assert difference(first, trainer(Net(dropout=0.5), seed=2).fit().model) > 0


def test_the_number_of_workers_changes_no_bit():
    alone = trainer(Net(norm=True, dropout=0.3)).fit().model
    helped = trainer(Net(norm=True, dropout=0.3), workers=2).fit().model
    assert difference(alone, helped) == 0


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_accumulation_changes_nothing(precision):
    whole = trainer(batch_size=16, precision=precision).fit().model
    parts = trainer(batch_size=4, accumulate=4, precision=precision).fit().model
    assert difference(whole, parts) < (1e-6 if precision == "fp32" else 2e-2)


class TwoCounts(Classify):
    """A second term that counts only the rows of class 0, as a masked loss does."""

    def counts(self, phase, batch, ctx):
        return {"rare": int((batch["target"] == 0).sum())}

    def loss(self, phase, nets, batch, ctx):
        logits = nets["model"](features=batch["features"])
        rare = batch["target"] == 0
        penalty = logits[rare].square().sum()
        return Loss(
            {
                "loss": (F.cross_entropy(logits, batch["target"], reduction="sum"), len(logits), 1.0),
                "rare": (penalty, int(rare.sum()), 0.3),
            }
        )


class Unannounced(TwoCounts):
    """The same, but it keeps its counts to itself."""

    def counts(self, phase, batch, ctx):
        return {}


def test_terms_with_counts_of_their_own_accumulate_exactly():
    data = splits()
    whole = trainer(objective=TwoCounts(NoOptions(), data.spec), batch_size=16).fit().model
    parts = trainer(objective=TwoCounts(NoOptions(), data.spec), batch_size=4, accumulate=4).fit().model
    assert difference(whole, parts) < 1e-6


def test_counts_that_were_not_announced_are_an_error_under_accumulation():
    data = splits()
    with pytest.raises(ValueError, match="'rare' counts"):
        trainer(objective=Unannounced(NoOptions(), data.spec), batch_size=4, accumulate=4).fit()


@pytest.mark.parametrize(("batch", "accumulate", "ranks"), [(8, 1, 1), (4, 2, 1), (2, 2, 2), (1, 2, 4)])
def test_an_epoch_shows_every_sample_once_however_it_is_cut(batch, accumulate, ranks):
    order, steps = Order(48, seed=3), 6
    plans = [Plan(order, batch, accumulate, rank, ranks, 0, steps) for rank in range(ranks)]
    seen = [sample for plan in plans for microbatch in plan for sample in microbatch]
    assert sorted(seen) == [(0, index) for index in range(48)]
    whole = Plan(order, 8, 1, 0, 1, 0, steps)
    for step, expected in enumerate(whole):
        mine = [s for p in plans for m in list(p)[step * accumulate : (step + 1) * accumulate] for s in m]
        assert sorted(mine) == sorted(expected), "a global batch holds the same samples for any number of ranks"


def test_order_goes_on_over_epochs_and_can_begin_anywhere():
    order = Order(10, seed=0)
    whole = order.samples(0, 35)
    assert [epoch for epoch, _ in whole] == [0] * 10 + [1] * 10 + [2] * 10 + [3] * 5
    assert order.samples(17, 9) == whole[17:26]
    assert [i for _, i in whole[:10]] != [i for _, i in whole[10:20]], "each epoch has an order of its own"


def test_evaluation_counts_every_sample_once():
    expected = trainer().evaluate("test")
    for rows in (1, 7, 31, 100):
        other = trainer(eval_batch_size=rows).evaluate("test")
        assert other["accuracy"] == expected["accuracy"]
        assert other["loss"] == pytest.approx(expected["loss"], rel=1e-6)


def test_a_frozen_backbone_keeps_its_weights_and_its_statistics():
    model = Net(norm=True)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    after = trainer(model, freeze="backbone").fit().model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"head.weight", "head.bias"}


def test_freezing_everything_or_nothing_is_an_error():
    with pytest.raises(ConfigError, match="no parameter matches 'stm'"):
        trainer(freeze="stm").fit()
    with pytest.raises(ConfigError, match="leaves nothing to train"):
        trainer(freeze=["stem", "head"]).fit()


class Poisoned(Points):
    """Data with a NaN in some rows."""

    def fetch(self, indices, rngs):
        batch = super().fetch(indices, rngs)
        batch["features"][torch.tensor([index in self.tensors["bad"] for index in indices])] = math.nan
        return {key: value for key, value in batch.items() if key != "bad"}


def poisoned(bad):
    clean = splits()
    tensors = {**clean.train.tensors, "bad": torch.tensor(bad).expand(48, -1)}
    return Splits(spec=clean.spec, train=Poisoned(tensors), test=clean.test)


def test_a_step_with_nan_is_skipped_and_leaves_weights_and_statistics_alone(tmp_path):
    result = trainer(Net(norm=True), data=poisoned([7]), steps=6, log_every=1, out=tmp_path / "run").fit()
    assert all(tensor.isfinite().all() for tensor in result.model.state_dict().values())
    log = (tmp_path / "run" / "log.jsonl").read_text()
    assert log.count('"skipped": 1.0') == 1
    assert result.metrics["accuracy"] > 0


def test_nothing_but_nan_ends_the_run_with_advice():
    with pytest.raises(FloatingPointError, match=r"lower optimizer\.lr"):
        trainer(data=poisoned(list(range(48))), steps=20, skip_nonfinite=3).fit()


def test_clipping_bounds_the_step():
    options = {"name": "sgd", "lr": 1.0, "momentum": 0.0}
    model = Net()
    before = torch.cat([p.detach().clone().flatten() for p in model.parameters()])
    trainer(model, steps=1, clip_norm=0.01, optimizer=options).fit()
    moved = torch.cat([p.detach().flatten() for p in model.parameters()]) - before
    assert float(moved.norm()) == pytest.approx(0.01, rel=1e-3)


def test_the_moving_average_is_the_average_and_is_what_is_delivered():
    run = trainer(Net(norm=True), steps=1, ema=0.9)
    start, trained = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}, run.model
    result = run.fit()
    average, end = result.model.state_dict(), trained.state_dict()
    assert run.evaluate() == result.metrics
    weight = 1 - min(0.9, 1 / 10)
    for name in ("stem.weight", "norm.running_mean"):
        assert torch.allclose(average[name], start[name].lerp(end[name], weight))
    assert average["norm.num_batches_tracked"] == end["norm.num_batches_tracked"] == 1


def test_the_best_weights_on_the_validation_part_are_delivered(tmp_path):
    erratic = {"name": "sgd", "lr": 30.0}
    run = trainer(
        data=splits(val=True),
        steps=4,
        eval_every=1,
        keep_best=True,
        optimizer=erratic,
        schedule="constant",
        out=tmp_path / "run",
    )
    run.fit()
    found = [event["accuracy"] for event in read_log(tmp_path / "run" / "log.jsonl") if event["split"] == "val"]
    assert max(found) > found[-1], "the last weights must not be the best, or the test shows nothing"
    assert run.evaluate("val")["accuracy"] == max(found)


class Broken(Points):
    """Data with a file that cannot be read."""

    def fetch(self, indices, rngs):
        if 7 in indices:
            raise OSError("photo7.png: not an image")
        return super().fetch(indices, rngs)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_while_reading_data_ends_the_run_and_its_workers(workers):
    clean = splits()
    run = trainer(data=Splits(spec=clean.spec, train=Broken(clean.train.tensors), test=clean.test), workers=workers)
    with pytest.raises(OSError, match=r"^photo7\.png: not an image$"):
        run.fit()
    assert multiprocessing.active_children() == []


class Alternate(Classify):
    """The stem learns at every step, the head at every second one."""

    def networks(self, model):
        return {"stem": model.stem, "head": model.head}

    def phases(self):
        return (Phase("stem", ("stem",)), Phase("head", ("head",), every=2))

    def evaluate(self, nets, batch, ctx):
        return {"loss": (torch.zeros(()), 1)}

    def loss(self, phase, nets, batch, ctx):
        other = nets["head" if phase.name == "stem" else "stem"]
        assert not any(parameter.requires_grad for parameter in other.parameters())
        logits = nets["head"](nets["stem"](batch["features"]).tanh())
        return Loss({phase.name: (F.cross_entropy(logits, batch["target"], reduction="sum"), len(logits), 1.0)})


def test_a_phase_updates_only_its_own_networks_and_only_when_it_is_due():
    run = trainer(objective=Alternate(NoOptions(), splits().spec), schedule="constant", steps=4)
    moved = []
    step = run._step

    def watched(state, *rest):
        before = [state.model.stem.weight.clone(), state.model.head.weight.clone()]
        step(state, *rest)
        moved.append(
            [not torch.equal(b, n.weight) for b, n in zip(before, (state.model.stem, state.model.head), strict=True)]
        )

    run._step = watched
    run.fit()
    assert moved == [[True, True], [True, False], [True, True], [True, False]]


def test_the_learning_rate_is_a_function_of_the_step():
    cosine = ScheduleConfig(name="cosine", warmup=10, final=0.1)
    rates = [factor(cosine, step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(1 / 11)
    assert rates[10] == 1.0
    assert rates[55] == pytest.approx(0.55)
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[99] == pytest.approx(0.1, abs=1e-3)
    assert [factor(ScheduleConfig(name="constant"), s, 9) for s in range(9)] == [1.0] * 9
    linear = ScheduleConfig(name="linear", hold=0.5)
    assert [factor(linear, step, 10) for step in (0, 5, 9)] == pytest.approx([1.0, 1.0, 0.2])


@pytest.mark.parametrize("mode", ["auto", "reference", "fused"])
def test_a_run_s_kernels_are_those_of_its_training_and_its_evaluation(mode):
    class Watched(Net):
        def forward(self, features):
            seen.append((self.training, op._mode[0]))
            return super().forward(features)

    seen = []
    run = trainer(Watched(), data=splits(val=True), kernels=mode)
    run.fit()
    assert set(seen) == {(True, mode), (False, mode)}
    seen.clear()
    run.evaluate()
    assert set(seen) == {(False, mode)}
    assert op._mode == ["auto"]


def test_the_definition_of_a_scan_learns_what_its_faster_form_learns(tmp_path):
    sections = {
        "model": {"name": "mamba", "dim": 16, "depth": 1},
        "data": {"name": "copying", "gap": 100, "samples": 64, "held_out": 16, "batch_size": 8},
        "trainer": {"steps": 3, "device": "cpu"},
    }
    runs = [zoo.Trainer(RunConfig.of({**sections, "kernels": mode})) for mode in ("auto", "reference")]
    faster, plain = (run.fit() for run in runs)
    assert 0 < difference(faster.model, plain.model) < 1e-4  # not the same bits, so that both have run
    assert faster.metrics == pytest.approx(plain.metrics, rel=1e-4)


def test_a_trainer_runs_once(tmp_path):
    run = trainer()
    run.fit()
    with pytest.raises(RuntimeError, match=r"this trainer has run.*make a new Trainer"):
        run.fit()
