"""A tiny model, data and objective for tests of the trainer, which must not depend on any architecture."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.training.data import Spec, Splits
from zoo.training.objectives import Loss, NoOptions, Objective
from zoo.training.run import RunConfig
from zoo.training.trainer import Trainer


@dataclass(frozen=True)
class Points:
    """Named tensors as a split."""

    tensors: dict[str, Tensor]

    def __len__(self):
        return len(self.tensors["target"])

    def fetch(self, indices, rngs):
        batch = {name: tensor[list(indices)] for name, tensor in self.tensors.items()}
        if rngs is not None:
            batch["features"] = (
                batch["features"] + torch.tensor([float(rngs[i].normal()) * 0.01 for i in range(len(rngs))])[:, None]
            )
        return batch


def points(count=48, seed=0, classes=3):
    random = torch.Generator().manual_seed(seed)
    features = torch.randn(count, 5, generator=random)
    target = (features @ torch.randn(5, classes, generator=torch.Generator().manual_seed(9))).argmax(1)
    return Points({"features": features, "target": target})


def splits(count=48, val=False):
    spec = Spec(keys=("features", "target"), num_classes=3, in_features=5)
    return Splits(spec=spec, train=points(count), val=points(24, 2) if val else None, test=points(31, 1))


class Net(nn.Module):
    """A layer, optional batch statistics, dropout, a head."""

    def __init__(self, norm=False, dropout=0.0):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Linear(5, 8)
        self.norm = nn.BatchNorm1d(8) if norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(8, 3)

    def forward(self, features):
        return self.head(self.dropout(self.norm(self.stem(features)).tanh()))


class Classify(Objective):
    """Cross-entropy per row."""

    name = "classify"
    headline = "accuracy"
    larger_is_better = True

    def loss(self, phase, nets, batch, ctx):
        logits = nets["model"](features=batch["features"])
        return Loss({"loss": (F.cross_entropy(logits, batch["target"], reduction="sum"), len(logits), 1.0)})

    def evaluate(self, nets, batch, ctx):
        logits = nets["model"](features=batch["features"])
        nll = F.cross_entropy(logits, batch["target"], reduction="sum")
        return {"loss": (nll, len(logits)), "accuracy": ((logits.argmax(1) == batch["target"]).sum(), len(logits))}


def trainer(
    model=None,
    data=None,
    objective=None,
    out=None,
    batch_size=8,
    workers=0,
    optimizer=None,
    schedule="cosine",
    kernels="auto",
    **config,
):
    """A trainer of the toys; further keywords are trainer options, with 6 steps by default."""
    model = Net() if model is None else model
    data = splits() if data is None else data
    sections = {
        "data": {"batch_size": batch_size, "workers": workers},
        "schedule": schedule,
        "optimizer": {"name": "adamw", "lr": 0.01, **(optimizer or {})},
        "trainer": {"steps": 6, "device": "cpu", **config},
        "kernels": kernels,
    }
    objective = Classify(NoOptions(), data.spec) if objective is None else objective
    return Trainer(RunConfig.of(sections), model, data, objective, out=out, quiet=True)


def difference(first, second):
    """The largest difference between two models' parameters and buffers."""
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return max(float((a.double() - b.double()).abs().max()) for a, b in pairs)
