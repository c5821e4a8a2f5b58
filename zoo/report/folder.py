"""A run's folder, read: its config, its log, its model, and the data it was trained on."""

from pathlib import Path
from typing import NamedTuple

from torch import nn

from zoo import weights
from zoo.report.history import History, read_history
from zoo.training.assemble import load_data
from zoo.training.data import Splits
from zoo.training.objectives import OBJECTIVES
from zoo.training.run import RunConfig


class Run(NamedTuple):
    """What a run left behind."""

    folder: Path
    config: RunConfig
    history: History
    model: nn.Module | None
    """The trained model in eval mode; None before the run has ended."""
    splits: Splits | None
    """The data it was trained on, where they can still be read."""
    remarks: tuple[str, ...]
    """What is missing or damaged."""

    @property
    def title(self) -> str:
        """The model's and the data's name."""
        model, data = (section.get("name", "something") for section in (self.config.model, self.config.data))
        return f"{model} on {data}"

    @property
    def objective(self) -> str:
        """What was learnt, by its registered name."""
        return self.config.objective.get("name", "")

    @property
    def parameters(self) -> int | None:
        """How many numbers the model has learnt; None before the run has ended."""
        return sum(p.numel() for p in self.model.parameters()) if self.model else None

    @property
    def steps(self) -> int:
        """How far it came."""
        return max((row["step"] for row in self.history.rows), default=0)

    @property
    def seconds(self) -> float:
        """How long that took."""
        return max((row.get("time") or 0 for row in self.history.rows), default=0)

    @property
    def final(self) -> tuple[str, dict[str, float]]:
        """The last metrics, on the part that says most: test, else validation, else training."""
        for split in ("test", "val", "train"):
            metrics = self.history.last(split)
            if metrics:
                return split, metrics
        return "test", {}

    @property
    def headline(self) -> str:
        """The metric that says how good the model is: the objective's own, or one that tells more of such data.

        That are bits for bytes, and where images are compared with texts, how often that names the right class.
        """
        telling = "accuracy" if self.objective == "contrastive" else "bits_per_byte"
        if telling in self.final[1]:
            return telling
        objective = OBJECTIVES.owner(self.objective)
        return "loss" if objective is None else objective.headline

    @property
    def larger_is_better(self) -> bool:
        """Of the headline."""
        objective = OBJECTIVES.owner(self.objective)
        return objective is not None and objective.larger_is_better


def read_run(folder: str | Path) -> Run:
    """Read what a run wrote, and its data; a model or data that are not there become remarks.

    Raises:
        OSError: the folder has no config or no log, or its model is damaged.
        ConfigError: its config cannot be read.
    """
    run = read_outcome(folder)
    if run.model is None:
        return run
    try:
        return run._replace(splits=load_data(run.config.data))
    except (OSError, ValueError, KeyError) as error:
        remark = f"The data cannot be read any more ({error}), so nothing is shown of the model's answers."
        return run._replace(remarks=(*run.remarks, remark))


def read_outcome(folder: str | Path) -> Run:
    """The same without the data, which take long to read.

    Raises:
        OSError: the folder has no config or no log, or its model is damaged.
        ConfigError: its config cannot be read.
    """
    folder = Path(folder)
    config = RunConfig.read(folder / "config.yaml")
    history = read_history(folder / "log.jsonl")
    remarks, model = [], None
    if history.damaged:
        lines = ", ".join(map(str, history.damaged))
        remarks.append(f"log.jsonl: line {lines} is damaged, as after a crash, and was left out.")
    if (folder / "model").is_dir():
        model = weights.load(folder / "model").eval()
    else:
        remarks.append("The run has not ended: there is no model yet.")
    return Run(folder, config, history, model, None, tuple(remarks))
