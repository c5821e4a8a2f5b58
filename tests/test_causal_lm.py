"""Causal language modelling counts tokens, whatever the texts they stand in."""

import math

import pytest
import torch
from laws import perturbed
from torch import nn

from zoo.registry import ARCHITECTURES
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


def gradients_of_inputs(name, truncate):
    """The loss of a text's last four tokens, and how much each of its twelve inputs matters to it."""
    model = perturbed(ARCHITECTURES.find(name))
    tokens = model.example_inputs(2)["tokens"][:, :12]
    read = []
    model.embed.register_forward_hook(lambda _, __, output: read.append(output) or output.retain_grad())
    target = tokens.roll(-1, 1).masked_fill(torch.arange(12) < 8, -100)
    total, count = loss_of(objective(truncate=truncate), {"model": model}, {"tokens": tokens, "target": target})
    total.backward()
    weights = [torch.zeros_like(piece) if piece.grad is None else piece.grad for piece in read]
    return total.item(), count, torch.cat(weights, dim=1).abs().sum((0, 2))


@pytest.mark.parametrize("name", ["rnn", "gru", "lstm", "mamba", "mamba2"])
def test_a_gradient_that_is_truncated_passes_no_further_back_while_the_state_is_carried_on(name):
    whole, cut, longer = (gradients_of_inputs(name, truncate) for truncate in (None, 4, 12))
    assert whole[:2] == pytest.approx(cut[:2], rel=1e-5)  # the state is that of the whole text
    assert whole[:2] == pytest.approx(longer[:2], rel=1e-5)
    torch.testing.assert_close(longer[2], whole[2], rtol=1e-4, atol=1e-6)
    assert (whole[2][:8] > 0).all()
    assert not cut[2][:8].any()
    assert (cut[2][8:] > 0).all()


def test_what_has_no_state_cannot_be_truncated():
    with pytest.raises(ValueError, match=r"truncate is for models with a state, such as lstm; leave it out for GPT2"):
        gradients_of_inputs("gpt2", 4)
    with pytest.raises(ValueError, match="truncate 0 is below 1"):
        CausalLMConfig(truncate=0)


@pytest.mark.parametrize("truncate", [None, 2], ids=["whole", "truncated"])
def test_padding_behind_a_text_changes_nothing_with_a_mask_or_without(truncate):
    model = perturbed(ARCHITECTURES.find("lstm"))
    goal, mask = objective(truncate=truncate), TARGET != -100
    without, with_mask = (loss_of(goal, {"model": model}, batch) for batch in (BATCH, BATCH | {"mask": mask}))
    assert without == with_mask
    other = BATCH | {"tokens": BATCH["tokens"].masked_fill(~mask, 5), "mask": mask}
    assert loss_of(goal, {"model": model}, other) == without
