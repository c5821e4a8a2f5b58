"""What finds what in a whole split: against the definition, with ties, with NaN, and in blocks of any size."""

import pytest
import torch
from torch.nn import functional as F

from zoo.training import retrieval
from zoo.training.retrieval import named_right, pair_losses, recalls
from zoo.training.rows import keep, kept


def unit(*shape, seed=0):
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def by_sorting(first, second, k):
    """How often the partner is among the first k of all, sorted by cosine."""
    nearest = (first @ second.T).argsort(1, descending=True)[:, :k]
    return float((nearest == torch.arange(len(first))[:, None]).any(1).float().mean())


@pytest.fixture(params=[2**24, 1, 100], ids=["one_block", "row_by_row", "a_few_rows"])
def block(request, monkeypatch):
    monkeypatch.setattr(retrieval, "BLOCK", request.param)


def related(rows=37, dim=6):
    first = unit(rows, dim)
    return first, F.normalize(first + 1.5 * unit(rows, dim, seed=1), dim=-1)


@pytest.mark.usefixtures("block")
def test_recall_is_how_often_the_partner_is_among_the_nearest_in_both_directions():
    first, second = related()
    found = recalls(first, second, at=(1, 2, 5, 10))
    assert 0.1 < found["recall@1"] < found["recall@5"] < 1
    for k in (1, 2, 5, 10):
        assert found[f"recall@{k}"] == pytest.approx(by_sorting(first, second, k))
        assert found[f"back_recall@{k}"] == pytest.approx(by_sorting(second, first, k))
    assert found["recall@2"] != found["back_recall@2"]


@pytest.mark.usefixtures("block")
def test_the_median_rank_is_that_of_sorting():
    first, second = related()
    found = recalls(first, second)
    for name, cosines in (("median_rank", first @ second.T), ("back_median_rank", second @ first.T)):
        places = cosines.argsort(1, descending=True).argsort(1).diagonal() + 1
        assert found[name] == float(places.float().median())


@pytest.mark.usefixtures("block")
def test_among_those_equally_near_chance_decides():
    same = unit(1, 6).expand(20, 6)
    found = recalls(same, same)
    assert found == pytest.approx(
        {"recall@1": 0.05, "recall@5": 0.25, "recall@10": 0.5, "median_rank": 10.5}
        | {"back_recall@1": 0.05, "back_recall@5": 0.25, "back_recall@10": 0.5, "back_median_rank": 10.5}
    )
    twice = unit(5, 6)[[0, 0, 1, 2, 3]]
    assert recalls(twice, twice)["recall@1"] == pytest.approx(4 / 5)


def test_what_rounding_tells_apart_is_equally_near():
    first = unit(1, 6).expand(20, 6)
    second = F.normalize(first + 1e-8 * torch.arange(20)[:, None], dim=-1)
    assert recalls(first, second)["recall@1"] == pytest.approx(0.05)


@pytest.mark.usefixtures("block")
def test_a_vector_of_nan_finds_nothing_however_few_there_are():
    first, second = related(rows=5)
    first[2] = torch.nan
    found = recalls(first, second)
    assert found["recall@10"] == pytest.approx(4 / 5)
    assert found["recall@1"] <= 4 / 5
    assert recalls(torch.full((5, 6), torch.nan), second)["recall@10"] == 0
    assert named_right(torch.full((5, 6), torch.nan), second, torch.zeros(5).long()) == 0


@pytest.mark.usefixtures("block")
def test_the_loss_of_a_split_is_that_of_one_batch():
    first, second = related()
    logits = 7 * first @ second.T - 1
    expected = -(logits.log_softmax(1).diagonal() + logits.log_softmax(0).diagonal()).mean() / 2
    assert pair_losses(first, second, 7.0, -1.0, sigmoid=False) == pytest.approx(float(expected), rel=1e-5)
    expected = -F.logsigmoid((2 * torch.eye(37) - 1) * logits).sum() / 37
    assert pair_losses(first, second, 7.0, -1.0, sigmoid=True) == pytest.approx(float(expected), rel=1e-5)


def test_the_nearest_class_is_the_answer():
    classes = torch.eye(3)
    image = torch.tensor([[1.0, 0.2, 0.0], [0.0, 0.1, 0.9], [0.3, 0.2, 0.1], [0.0, 1.0, 0.0]])
    assert named_right(image, classes, torch.tensor([0, 2, 1, 1])) == 0.75


def test_rows_kept_in_parts_and_in_any_order_come_back_in_the_order_of_their_places():
    rows = unit(9, 4)
    parts = [keep(rows[places], torch.tensor(places)) for places in ([1, 3, 8], [0, 2], [7, 4, 6, 5])]
    assert torch.equal(kept(parts[2] + parts[0] + parts[1]), rows)


def test_no_table_of_all_pairs_is_made(monkeypatch):
    seen = []
    first = unit(2_000, 8)
    monkeypatch.setattr(retrieval, "BLOCK", 100_000)

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            seen.append(result.numel() if isinstance(result, torch.Tensor) else 0)
            return result

    with Watch():
        recalls(first, first)
        pair_losses(first, first, 10.0, 0.0, sigmoid=False)
    assert 50_000 < max(seen) <= 100_000
