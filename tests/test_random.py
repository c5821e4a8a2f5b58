"""Numbers that depend on what they are for, and on nothing else."""

import pytest
import torch

from zoo.training.random import Rows, generator, seed_torch

SAMPLES = [(0, 3), (2, 1), (-1, 7)]


def rows(samples=SAMPLES, seed=0, prefix="train/"):
    return Rows(seed, prefix, samples, torch.device("cpu"))


@pytest.mark.parametrize("draw", ["normal", "uniform", "integers"])
def test_a_row_s_draw_depends_only_on_its_own_sample(draw):
    def drawn(some):
        return some.integers("z", 1000, (4,)) if draw == "integers" else getattr(some, draw)("z", (4,))

    whole = drawn(rows())
    assert whole.shape == (3, 4)
    assert torch.equal(drawn(rows(SAMPLES[::-1])), whole.flip(0))
    assert torch.equal(drawn(rows(SAMPLES[1:2])), whole[1:2])


def test_seed_name_prefix_epoch_and_index_all_matter():
    base = rows([(0, 0)]).normal("z", (4,))
    others = [
        rows([(0, 0)], seed=1).normal("z", (4,)),
        rows([(0, 0)], prefix="other/").normal("z", (4,)),
        rows([(0, 0)]).normal("y", (4,)),
        rows([(1, 0)]).normal("z", (4,)),
        rows([(0, 1)]).normal("z", (4,)),
        rows([(-1, 0)]).normal("z", (4,)),
    ]
    assert not any(torch.equal(base, other) for other in others)


def test_draws_have_the_distribution_they_are_named_after():
    many = rows([(0, index) for index in range(2000)])
    normal, uniform, whole = many.normal("a", (5,)), many.uniform("b", (5,)), many.integers("c", 4, (5,))
    assert abs(float(normal.mean())) < 0.05
    assert float(normal.std()) == pytest.approx(1, abs=0.03)
    assert 0 <= float(uniform.min()) < 0.01 < 0.99 < float(uniform.max()) < 1
    assert whole.unique().tolist() == [0, 1, 2, 3]
    assert whole.dtype == torch.int64


def test_the_same_moment_seeds_torch_alike():
    seed_torch(0, "step", 5)
    first = torch.rand(3)
    seed_torch(0, "step", 6)
    assert not torch.equal(torch.rand(3), first)
    seed_torch(0, "step", 5)
    assert torch.equal(torch.rand(3), first)


def test_large_seeds_and_negative_counters_are_no_special_case():
    assert generator(-1, "a", -1).integers(2**63) == generator(2**64 - 1, "a", 2**64 - 1).integers(2**63)
