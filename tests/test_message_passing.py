"""The parts of graph networks against plain loops."""

import pytest
import torch
from torch import nn

from zoo.nn.message_passing import count_at, gathered, glorot, largest_at, mapped, read_out, sum_at

INDEX = torch.tensor([2, 0, 2, 2, 4])
"""Of five messages; none goes to 1 and 3."""


def looped(messages, size, take):
    """For each place what is taken of its messages; zeros where there are none."""
    rows = []
    for place in range(size):
        there = [message for message, index in zip(messages, INDEX.tolist(), strict=True) if index == place]
        rows.append(take(torch.stack(there)) if there else torch.zeros(messages.shape[1]))
    return torch.stack(rows)


@pytest.mark.parametrize(
    ("function", "take"),
    [(sum_at, lambda rows: rows.sum(0)), (largest_at, lambda rows: rows.amax(0))],
    ids=["sum", "max"],
)
def test_messages_to_the_same_place_are_taken_together(function, take):
    messages = torch.randn(5, 3) - 2  # a maximum with zeros would show
    torch.testing.assert_close(function(INDEX, messages, 6), looped(messages, 6, take))


@pytest.mark.parametrize(
    ("how", "take"),
    [
        ("sum", lambda rows: rows.sum(0)),
        ("mean", lambda rows: rows.mean(0)),
        ("max", lambda rows: rows.amax(0)),
    ],
)
def test_a_readout_is_taken_over_the_nodes_of_each_graph(how, take):
    nodes = torch.randn(5, 3) - 2
    torch.testing.assert_close(read_out(nodes, INDEX, 6, how), looped(nodes, 6, take))
    torch.testing.assert_close(read_out(nodes, INDEX, None, how), looped(nodes, 5, take))
    assert read_out(nodes[:0], INDEX[:0], None, how).shape == (0, 3)


def test_neighbours_are_added_up_where_edges_end():
    nodes = torch.tensor([[1.0], [10.0], [100.0]])
    edges = torch.tensor([[0, 1, 1, 2], [2, 2, 2, 2]])
    assert gathered(nodes, edges).flatten().tolist() == [0, 0, 121]


def test_counts_are_exact_in_bfloat16_too():
    many = torch.zeros(1001, dtype=torch.int64)
    assert count_at(many, 2, torch.bfloat16).flatten().tolist() == [1001, 0], "bfloat16 itself would stop at 256"
    assert count_at(many, 2, torch.float64).dtype == torch.float64
    mean = read_out(torch.ones(1001, 2, dtype=torch.bfloat16), many, 1, "mean")
    assert mean.dtype == torch.bfloat16
    assert mean.tolist() == [[1, 1]]


@pytest.mark.parametrize("out_features", [2, 7])
def test_features_are_mapped_before_or_after_they_are_mixed_with_the_same_result(out_features):
    proj, nodes, mixing = nn.Linear(5, out_features), torch.randn(4, 5), torch.randn(4, 4)
    widths = []

    def mix(x):
        widths.append(x.shape[1])
        return mixing @ x

    torch.testing.assert_close(mapped(proj, mix, nodes), proj(mixing @ nodes))
    assert widths == [min(5, out_features)], "the fewer features travel"


def test_glorot_s_weights_have_his_variance():
    weight = torch.empty(300, 100)
    glorot(weight)
    assert abs(weight.var().item() / (2 / 400) - 1) < 0.05
    assert abs(weight.mean().item()) < 0.002
