"""Small graph networks and runs for tests of graph data, which must not depend on any architecture."""

import itertools

import torch
from torch import nn

from zoo.training.objectives import NoOptions
from zoo.training.objectives.graph_classification import GraphClassification
from zoo.training.objectives.link_prediction import LinkPrediction
from zoo.training.objectives.node_classification import NodeClassification
from zoo.training.run import RunConfig
from zoo.training.trainer import Trainer


class Layers(nn.Module):
    """Layers that mix what comes along the edges: by a mean, a sum, or normalised by degrees as in a GCN."""

    def __init__(self, in_features, num_classes, depth=2, dim=8, mix="mean", dropout=0.0):
        super().__init__()
        torch.manual_seed(0)
        widths = [in_features, *[dim] * (depth - 1), num_classes]
        self.own = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        self.neighbours = nn.ModuleList(nn.Linear(a, b, bias=False) for a, b in itertools.pairwise(widths))
        self.dropout = nn.Dropout(dropout)
        self.mix = mix

    def forward(self, nodes, edges, graph=None, num_graphs=None):
        source, end = edges
        degree = torch.zeros(len(nodes)).index_add(0, end, torch.ones(len(end)))
        share = {
            "mean": 1 / degree.clamp(min=1)[end],
            "sum": torch.ones(len(end)),
            "gcn": ((1 + degree[source]) * (1 + degree[end])).rsqrt(),
        }[self.mix]
        for i, (own, neighbours) in enumerate(zip(self.own, self.neighbours, strict=True)):
            sent = neighbours(nodes)
            came = torch.zeros_like(sent).index_add(0, end, sent[source] * share[:, None])
            nodes = own(nodes) + came
            if i < len(self.own) - 1:
                nodes = self.dropout(nodes.relu())
        if graph is None:
            return nodes
        return torch.zeros(num_graphs, nodes.shape[1]).index_add(0, graph, nodes)


def objective_for(spec):
    kind = NodeClassification
    if "pairs" in spec.keys:
        kind = LinkPrediction
    elif "graph" in spec.keys:
        kind = GraphClassification
    return kind(NoOptions(), spec)


def graph_trainer(data, model=None, out=None, batch_size=8, workers=0, **config):
    """A trainer of a small network on graph data; further keywords are trainer options."""
    spec = data.spec
    model = Layers(spec.in_features, spec.num_classes or 6) if model is None else model
    sections = {
        "data": {"batch_size": batch_size, "workers": workers},
        "optimizer": {"name": "adamw", "lr": 0.01},
        "trainer": {"steps": 6, "device": "cpu", **config},
    }
    return Trainer(RunConfig.of(sections), model, data, objective_for(spec), out=out, quiet=True)


def accumulated_gradient(split, objective, model, parts):
    """The gradient of the mean loss over samples that come in so many parts; `parts` lists the samples of each."""
    from zoo.training.objectives import Context
    from zoo.training.random import Rows, generator

    model.zero_grad()
    phase = objective.phases()[0]
    batches = []
    for samples in parts:
        rngs = [generator(0, "augment", *sample) for sample in samples]
        ctx = Context(0, Rows(0, "train/", samples, torch.device("cpu")), training=True)
        batches.append((split.fetch([index for _, index in samples], rngs), ctx))
    losses = [objective.loss(phase, {"model": model}, batch, ctx) for batch, ctx in batches]
    announced = sum(int(objective.counts(phase, batch, ctx)["cross_entropy"]) for batch, ctx in batches)
    counted = sum(int(loss.terms["cross_entropy"][1]) for loss in losses)
    assert announced == counted
    (sum(loss.terms["cross_entropy"][0] for loss in losses) / counted).backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
