"""Sorting: the rows, whose answer is known, and what is learnt of them, sequence to sequence."""

import math

import numpy as np
import pytest
import torch
from laws import perturbed
from samples import read, rngs, whole
from torch import nn

from zoo.architectures.transformer import ARCHITECTURE, TransformerConfig
from zoo.training.data import Spec
from zoo.training.objectives.seq2seq import Seq2Seq, Seq2SeqConfig
from zoo.training.run import RunConfig
from zoo.training.trainer import Trainer

PAD, START, STOP = 0, 1, 2
TINY = {"num_symbols": 12, "min_length": 2, "max_length": 5, "samples": 300, "held_out": 200}


def symbols(batch):
    """Each row's source, without padding."""
    return [row[mask].tolist() for row, mask in zip(batch["source"], batch["source_mask"], strict=True)]


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_the_target_is_the_source_in_order_and_then_the_end(part):
    split = getattr(read("sorting", **TINY), part)
    batch = split.fetch(range(50), rngs(range(50)) if part == "train" else None)
    for row, (tokens, target) in enumerate(zip(batch["tokens"], batch["target"], strict=True)):
        answer = sorted(symbols(batch)[row])
        left = 5 - len(answer)
        assert tokens.tolist() == [START, *answer, *[PAD] * left]
        assert target.tolist() == [*answer, STOP, *[-100] * left]
        assert min(answer) >= 3
        assert max(answer) < 15


def test_all_lengths_occur_and_padding_is_masked():
    batch = whole(read("sorting", **TINY).test)
    lengths = batch["source_mask"].sum(1)
    assert set(lengths.tolist()) == {2, 3, 4, 5}
    assert (batch["source"][~batch["source_mask"]] == PAD).all()
    assert all(mask.int().diff().le(0).all() for mask in batch["source_mask"])


def test_no_answer_is_in_two_parts():
    splits = read("sorting", **TINY)
    answers = {
        name: {tuple(sorted(row)) for row in symbols(whole(getattr(splits, name)))} for name in ("train", "val", "test")
    }
    assert not answers["train"] & answers["test"]
    assert not answers["train"] & answers["val"]
    assert not answers["val"] & answers["test"]


def test_a_row_depends_on_its_index_alone_or_on_its_generator():
    splits, other = read("sorting", **TINY), read("sorting", **TINY, subset_seed=1)
    assert torch.equal(whole(splits.test)["source"][7:9], splits.test.fetch([7, 8], None)["source"])
    assert not torch.equal(whole(splits.test)["source"], whole(other.test)["source"])
    first, again, later = (splits.train.fetch([3], [np.random.default_rng(seed)])["source"] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, later)


def test_the_vocabulary_is_what_a_model_needs():
    assert read("sorting").spec.model_fields() == {"vocab_size": 67, "max_seq_len": 17}
    assert len(read("sorting", **TINY).train) == 300


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_symbols": 9}, "num_symbols 9 is below 10"),
        ({"min_length": 0}, r"min_length 0 is not in \[1, 16\]"),
        ({"min_length": 17}, r"min_length 17 is not in \[1, 16\]"),
        ({"held_out": 0}, "held_out 0 is below 1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_rows_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        read("sorting", **options)


TEXTS = Spec(keys=("source", "tokens", "target"), vocab_size=4)
TARGET = torch.tensor([[1, 2, -100, -100], [3, 0, 1, -100]])
BATCH = {
    "source": torch.tensor([[0], [1]]), "tokens": torch.tensor([[0, 1, 2, 3], [2, 1, 0, 3]]), "target": TARGET,
}  # fmt: skip


class Table(nn.Module):
    """The next token by the present one and the source."""

    def __init__(self, scores):
        super().__init__()
        self.scores = nn.Parameter(scores)

    def forward(self, source, tokens, source_mask=None):
        return self.scores[source, tokens]


def objective(spec=TEXTS, **options):
    return Seq2Seq(Seq2SeqConfig(**options), spec)


def loss_of(goal, table, batch):
    phase = goal.phases()[0]
    loss = goal.loss(phase, {"model": table}, batch, None)
    assert goal.counts(phase, batch, None) == {name: term[1] for name, term in loss.terms.items()}
    ((total, count, weight),) = loss.terms.values()
    assert weight == 1
    return total, int(count)


def surprises(table, smoothing=0.0):
    """Of the five tokens that are asked for."""
    logs = -table.scores.log_softmax(-1)
    found = []
    for row, token, target in [(0, 0, 1), (0, 1, 2), (1, 2, 3), (1, 1, 0), (1, 0, 1)]:
        found.append((1 - smoothing) * logs[row, token, target] + smoothing * logs[row, token].mean())
    return torch.stack(found)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.4])
def test_the_loss_is_a_sum_over_the_tokens_that_are_asked_for(smoothing):
    table = Table(torch.randn(2, 4, 4))
    total, count = loss_of(objective(label_smoothing=smoothing), table, BATCH)
    assert count == 5
    torch.testing.assert_close(total, surprises(table, smoothing).sum())


def test_smoothing_is_the_papers_by_default():
    table = Table(torch.randn(2, 4, 4))
    torch.testing.assert_close(loss_of(objective(), table, BATCH)[0], surprises(table, 0.1).sum())


def test_microbatches_add_up_to_the_batch():
    table = Table(torch.randn(2, 4, 4))
    whole_total, whole_count = loss_of(objective(), table, BATCH)
    parts = [loss_of(objective(), table, {k: v[row : row + 1] for k, v in BATCH.items()}) for row in (0, 1)]
    assert sum(count for _, count in parts) == whole_count
    assert sum(total.item() for total, _ in parts) == pytest.approx(whole_total.item())


@torch.no_grad()
def test_evaluation_gives_nats_hits_and_whole_texts():
    table = Table(torch.zeros(2, 4, 4))
    table.scores[0, 0, 1] = table.scores[0, 1, 2] = table.scores[1, 2, 3] = table.scores[1, 1, 3] = 5.0
    table.scores[1, 0, 1] = 5.0  # of the second text, the token in the middle is missed
    goal = objective()
    metrics = goal.summarize(
        {
            name: (torch.as_tensor(t), torch.as_tensor(c))
            for name, (t, c) in goal.evaluate({"model": table}, BATCH, None).items()
        }
    )
    nats = surprises(table).mean().item()
    assert metrics == pytest.approx(
        {"loss": nats, "accuracy": 4 / 5, "exact_match": 1 / 2, "perplexity": math.exp(nats)}, rel=1e-5
    )


@torch.no_grad()
def test_a_text_without_a_miss_is_the_one_that_the_model_writes():
    torch.manual_seed(3)
    model = perturbed(ARCHITECTURE, TransformerConfig(vocab_size=15, dim=16, depth=1, num_heads=2, mlp_dim=16))
    source = torch.randint(3, 15, (40, 4))
    written = model.generate(source, 3, stop_tokens=[])
    target = written.clone()
    target[::2, 1] = (target[::2, 1] + 1) % 15  # every other answer is another text
    tokens = torch.cat([torch.full((40, 1), START), target[:, :-1]], dim=1)
    batch = {"source": source, "tokens": tokens, "target": target}
    hits, count = objective(Spec(keys=("source",), vocab_size=15)).evaluate({"model": model}, batch, None)[
        "exact_match"
    ]
    assert (int(hits), count) == (20, 40)


@pytest.mark.parametrize("spec", [Spec(keys=("tokens", "target"), vocab_size=4), Spec(keys=("source", "target"))])
def test_data_without_pairs_of_texts_are_refused(spec):
    with pytest.raises(ValueError, match="objective seq2seq needs data of a source and tokens"):
        objective(spec)


def test_smoothing_that_leaves_nothing_is_refused():
    with pytest.raises(ValueError, match=r"label_smoothing 1.0 is not in \[0, 1\)"):
        Seq2SeqConfig(label_smoothing=1.0)


def test_a_transformer_learns_to_sort_and_writes_what_it_was_measured_by():
    """The objective and the task come by themselves; the recipe's task in small."""
    run = {
        "model": {"name": "transformer", "dim": 32, "depth": 1, "num_heads": 4, "mlp_dim": 64, "dropout": 0.0},
        "data": {"name": "sorting", **TINY, "batch_size": 32},
        "optimizer": {"lr": 0.01},
        "schedule": {"warmup": 0.1},
        "trainer": {"steps": 80, "device": "cpu"},
    }
    result = Trainer(RunConfig.of(run), quiet=True).fit()
    assert result.metrics["accuracy"] > 0.6  # guessing gives a tenth
    batch = whole(read("sorting", **TINY).test)
    written = result.model.generate(batch["source"], 6, source_mask=batch["source_mask"])
    answer = batch["target"].masked_fill(batch["target"] == -100, PAD)
    written = nn.functional.pad(written, (0, 6 - written.shape[1]))
    assert (written == answer).all(1).float().mean().item() == pytest.approx(result.metrics["exact_match"])
    assert result.metrics["exact_match"] > 0.05
