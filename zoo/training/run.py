"""A run as data: the typed, strict form of a training config.

`model`, `data` and `objective` name something registered and carry its options; their keys are checked by
the dataclass that belongs to that name. The other sections are the dataclasses below.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from zoo.config import ConfigError, build, merge, parse_overrides, read_yaml


@dataclass(frozen=True, kw_only=True)
class Group:
    """Parameters that are optimised differently; None keeps the top-level value."""

    match: str | tuple[str, ...]
    """Shell-style patterns for parameter names, such as `head.*`; the first group that matches wins."""
    name: Literal["sgd", "adamw", "muon"] | None = None
    lr: float | None = None
    weight_decay: float | None = None
    betas: tuple[float, float] | None = None
    momentum: float | None = None


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """How parameters are updated."""

    name: Literal["sgd", "adamw", "muon"] = "adamw"
    """`muon` takes matrices only; give the rest to `adamw` by a group."""
    lr: float = 1e-3
    weight_decay: float = 0.0
    """Decoupled in adamw and muon, L2 in sgd; biases, norms and a model's `no_weight_decay` are spared."""
    momentum: float = 0.9
    """For sgd and muon."""
    nesterov: bool = False
    betas: tuple[float, float] = (0.9, 0.999)
    """For adamw."""
    eps: float = 1e-8
    groups: tuple[Group, ...] = ()
    layer_decay: float = 1.0
    """Layer-wise learning-rate decay: the k-th layer below the head learns at lr * layer_decay**k."""

    def __post_init__(self) -> None:
        """Refuse what cannot train."""
        if self.lr < 0:
            raise ValueError(f"lr {self.lr} is negative; give a number >= 0")
        if self.weight_decay < 0 or self.eps <= 0:
            raise ValueError(f"weight_decay {self.weight_decay} must be >= 0, and eps {self.eps} positive")
        if not all(0 <= value < 1 for value in (*self.betas, self.momentum)):
            raise ValueError(f"betas {self.betas} and momentum {self.momentum} must lie in [0, 1)")
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"layer_decay {self.layer_decay} is not in (0, 1]")


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """The learning rate as a factor in [0, 1] of each group's own rate, a pure function of the step."""

    name: Literal["constant", "cosine", "linear"] = "cosine"
    warmup: float = 0.0
    """Linear warm-up: below 1 a share of all steps, else a number of steps."""
    hold: float = 0.0
    """Share of all steps, after the warm-up, at the full rate before it falls."""
    final: float = 0.0
    """The factor at the last step."""

    def __post_init__(self) -> None:
        """Refuse what is no share."""
        if self.warmup < 0:
            raise ValueError(f"warmup {self.warmup} is negative; give a share of all steps, or a number of steps")
        if not (0 <= self.hold <= 1 and 0 <= self.final <= 1):
            raise ValueError(f"hold {self.hold} and final {self.final} must lie in [0, 1]")


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """How long, how exactly, and what is kept."""

    steps: int | None = None
    """Optimizer steps; give this or `epochs`."""
    epochs: float | None = None
    """Passes over the training part."""
    seed: int = 0
    device: str = "auto"
    """`auto` takes the accelerator when there is one."""
    precision: Literal["fp32", "bf16"] = "fp32"
    accumulate: int = 1
    """Microbatches per step; the global batch is data.batch_size x accumulate x ranks."""
    clip_norm: float | None = None
    """Largest gradient norm, per phase, over all networks that it updates."""
    ema: float | None = None
    """Decay of an exponential moving average of the weights; evaluation and export then use the average."""
    skip_nonfinite: int = 10
    """A step with a NaN or infinite gradient is skipped; this many in a row end the run with an error."""
    checkpoint_every: int | None = None
    """Steps between checkpoints; the last step always has one."""
    keep: int = 2
    """How many of the newest checkpoints stay."""
    eval_every: int | None = None
    """Steps between evaluations on the validation part; by default ten times a run, where there is one."""
    keep_best: bool = False
    """Export the weights that were best on the validation part instead of the last ones."""
    log_every: int | None = None
    """Steps between log lines; by default a hundred lines a run."""
    eval_batch_size: int | None = None
    """Rows at once when evaluating; data.batch_size when not given."""
    freeze: str | tuple[str, ...] = ()
    """Patterns of parameters that are not trained; `backbone` is all but the head."""
    compile: bool = False
    gradient_checkpointing: bool = False
    """Keep only the input of each block for the backward pass and compute the rest again: less memory, more time."""

    def __post_init__(self) -> None:
        """Refuse contradictions."""
        if self.steps is not None and self.epochs is not None:
            raise ValueError(f"steps {self.steps} and epochs {self.epochs} are both given; keep one")
        for name in ("accumulate", "keep"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is below 1")
        for name in ("steps", "epochs", "checkpoint_every", "eval_every", "log_every", "eval_batch_size", "clip_norm"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} {value} is not positive")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed {self.seed} is not in [0, 2**63)")
        if self.device.partition(":")[0] == "meta":
            raise ValueError("device meta computes nothing; give cpu, cuda, mps or auto")
        if self.ema is not None and not 0 < self.ema < 1:
            raise ValueError(f"ema {self.ema} is not between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that a run depends on."""

    model: Mapping[str, Any] = field(default_factory=dict)
    """`name`: anything that zoo.create takes; the other keys are fields of that model's config."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """`name`, `batch_size`, `workers`, and the options of that data set."""
    objective: Mapping[str, Any] = field(default_factory=dict)
    """`name` and its options; by default what the data ask for, else what the model's task is trained by."""
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    trainer: TrainerConfig = TrainerConfig()
    kernels: Literal["auto", "reference", "fused"] = "auto"
    """Which implementation of each operation runs: the fastest that can, the plain definition, or the Triton kernel."""

    @classmethod
    def read(cls, path: str | Path | None, overrides: Sequence[str] = ()) -> "RunConfig":
        """Read a YAML file, lay `a.b=c` overrides on top, and check everything that needs no data.

        Raises:
            OSError: the file cannot be read.
            ConfigError: it is not YAML, or not a valid config; the message names key, rule and remedy.
        """
        where = str(path or "config")
        values = _named({} if path is None else read_yaml(path), where)
        return cls.of(merge(values, _named(parse_overrides(list(overrides)), where)), where)

    @classmethod
    def of(cls, values: Mapping[str, Any], where: str = "config") -> "RunConfig":
        """The same from nested mappings."""
        return build(cls, _named(values, where), where)


NAMED = ("model", "data", "objective", "optimizer", "schedule")
"""Sections for which `section: word` stands for `section: {name: word}`."""


def _named(values: Any, where: str) -> dict[str, Any]:
    """The sections with the short form spelt out."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where}: expected sections such as model and data, got {values!r}")
    return {key: {"name": value} if isinstance(value, str) and key in NAMED else value for key, value in values.items()}
