"""Causal language modelling counts tokens, whatever the texts they stand in."""

import math

import pytest
import torch
from torch import nn

from zoo.training.data import Spec
from zoo.training.objectives.causal_lm import CausalLM, CausalLMConfig

TARGET = torch.tensor([[1, 2, -100, -100], [3, 0, 1, -100]])
BATCH = {"tokens": torch.tensor([[0, 1, 2, 3], [2, 1, 0, 3]]), "target": TARGET}
BYTES, WORDS = (Spec(keys=("tokens", "target"), vocab_size=size) for size in (256, 50257))


class Table(nn.Module):
    """The next token by the present one."""

    def __init__(self, scores):
        super().__init__()
        self.scores = nn.Parameter(scores)

    def forward(self, tokens):
        return self.scores[tokens]


def objective(spec=BYTES, **options):
    return CausalLM(CausalLMConfig(**options), spec)


def loss_of(goal, nets, batch):
    phase = goal.phases()[0]
    loss = goal.loss(phase, nets, batch, None)
    assert goal.counts(phase, batch, None) == {name: term[1] for name, term in loss.terms.items()}
    ((total, count, weight),) = loss.terms.values()
    assert weight == 1
    return total, int(count)


def expected_nll(table):
    asked = [(int(t), int(y)) for t, y in zip(BATCH["tokens"].flatten(), TARGET.flatten(), strict=True) if y >= 0]
    return [-table.scores.log_softmax(-1)[t, y].item() for t, y in asked]


def test_the_loss_is_a_sum_over_the_tokens_that_are_asked_for():
    table = Table(torch.randn(4, 4))
    total, count = loss_of(objective(), {"model": table}, BATCH)
    assert count == 5
    assert total.item() == pytest.approx(sum(expected_nll(table)))


def test_what_is_not_asked_for_has_no_gradient():
    table = Table(torch.randn(4, 4))
    total, _ = loss_of(objective(), {"model": table}, BATCH)
    total.backward()
    asked = set(BATCH["tokens"][TARGET >= 0].tolist())
    assert {token for token in range(4) if table.scores.grad[token].any()} == asked


def test_microbatches_add_up_to_the_batch():
    table = Table(torch.randn(4, 4))
    whole = loss_of(objective(), {"model": table}, BATCH)
    parts = [loss_of(objective(), {"model": table}, {k: v[row : row + 1] for k, v in BATCH.items()}) for row in (0, 1)]
    assert sum(count for _, count in parts) == whole[1]
    assert sum(total.item() for total, _ in parts) == pytest.approx(whole[0].item())


@torch.no_grad()
def test_evaluation_gives_nats_hits_perplexity_and_bits():
    table = Table(torch.zeros(4, 4))
    table.scores[:, 1] = 5.0  # always says 1, which is right for two of the five
    goal = objective(label_smoothing=0.5)
    batches = [{key: value[row : row + 1] for key, value in BATCH.items()} for row in (0, 1)]
    totals = {}
    for batch in batches:
        for name, (total, count) in goal.evaluate({"model": table}, batch, None).items():
            before = totals.get(name, (0, 0))
            totals[name] = before[0] + total, before[1] + count
    metrics = goal.summarize(totals)
    nats = sum(expected_nll(table)) / 5
    assert metrics["loss"] == pytest.approx(nats)
    assert metrics["perplexity"] == pytest.approx(math.exp(nats))
    assert metrics["bits_per_byte"] == pytest.approx(nats / math.log(2))
    assert metrics["accuracy"] == pytest.approx(2 / 5)


def test_bits_per_byte_need_bytes():
    totals = {"loss": (torch.tensor(6.0), torch.tensor(2)), "accuracy": (torch.tensor(1), torch.tensor(2))}
    assert set(objective(WORDS).summarize(totals)) == {"loss", "accuracy", "perplexity"}


def test_a_diverged_model_has_an_infinite_perplexity():
    totals = {"loss": (torch.tensor(9e9).double(), torch.tensor(2)), "accuracy": (torch.tensor(0), torch.tensor(2))}
    assert objective().summarize(totals)["perplexity"] == math.inf


def test_label_smoothing_mixes_in_all_tokens():
    table = Table(torch.randn(4, 4))
    total, _ = loss_of(objective(label_smoothing=0.2), {"model": table}, BATCH)
    logs = -table.scores.log_softmax(-1)
    spread = sum(logs[token].mean().item() for token in BATCH["tokens"][TARGET >= 0])
    assert total.item() == pytest.approx(0.8 * sum(expected_nll(table)) + 0.2 * spread, rel=1e-5)


def test_smoothing_that_leaves_nothing_is_refused():
    with pytest.raises(ValueError, match=r"label_smoothing 1.0 is not in \[0, 1\)"):
        CausalLMConfig(label_smoothing=1.0)
