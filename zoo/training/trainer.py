"""The loop that trains every kind of model.

The trainer alone owns steps, precision, accumulation, clipping, optimizers, the moving average, checkpoints,
evaluation and logging, and knows no architecture. Every random number is a function of the seed and of what it
is for (`random.py`), the order of samples is one of the step (`data/loader.py`), and so is the learning rate
(`schedule.py`); a run that resumes at a step is therefore the run that never stopped, bit for bit.
"""

import math
from collections.abc import Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from zoo import kernels, weights
from zoo.config import ConfigError, to_yaml
from zoo.storage import DamagedFile, replace_file
from zoo.training.assemble import assemble, check_same_run, note_data
from zoo.training.checkpoint import newest_valid, save_checkpoint
from zoo.training.data import Split, Splits
from zoo.training.data.loader import Microbatch, Order, Plan, select, training_batches
from zoo.training.distributed import World, world
from zoo.training.evaluation import evaluate
from zoo.training.interrupt import Flag, Interrupted, listening
from zoo.training.log import Log, ProgressLine
from zoo.training.metrics import Window
from zoo.training.objectives import Objective
from zoo.training.recompute import recomputing
from zoo.training.run import RunConfig
from zoo.training.schedule import factor
from zoo.training.state import State
from zoo.training.update import update


@dataclass(frozen=True)
class Result:
    """What a run delivers."""

    model: nn.Module
    """The final weights, or their moving average, or the best on the validation part: what the config asks for."""
    metrics: Mapping[str, float]
    """Of the test part, or of the validation part where there is no test part."""
    steps: int
    out: Path | None


class Trainer:
    """Trains one model by one config."""

    def __init__(
        self,
        config: RunConfig,
        model: nn.Module | None = None,
        data: Splits | None = None,
        objective: Objective | None = None,
        *,
        out: str | Path | None = None,
        quiet: bool = False,
    ) -> None:
        """Read the data, fill in what the config leaves out, and build the model.

        Args:
            config: the run; its model, data or objective section may be empty where that part is given.
            model: a model of your own instead of `config.model`.
            data: data of your own instead of `config.data`.
            objective: an objective of your own instead of `config.objective`.
            out: the run's folder; None keeps everything in memory, without checkpoints.
            quiet: show no progress.

        Raises:
            ConfigError: the parts do not fit each other; the message names both.
        """
        if not isinstance(config, RunConfig):
            raise TypeError(
                f"expected a RunConfig, got {type(config).__name__}; RunConfig.of(...) makes one of sections"
            )
        self.out = None if out is None else Path(out)
        self._begun = False
        self.quiet = quiet
        parts = assemble(config, model, data, objective)
        self.config, self.model, self.splits, self.objective = parts[:4]
        self.steps = self.config.trainer.steps or 0
        self._registered = note_data(self.model, self.splits.spec, self.objective.facts())
        self._wanted = {*self.objective.reads, *self.objective.may_read, *parts.arguments}

    def fit(self, resume: bool = False) -> Result:
        """Train to the end; a second time, a trainer only resumes.

        Args:
            resume: go on from the newest valid checkpoint in `out`; where there is none, begin.

        Raises:
            ConfigError: `out` holds a run and `resume` is not set, or one that was begun with another config.
            DamagedFile: there are checkpoints, but none is whole.
            FloatingPointError: too many steps in a row had a gradient that is not finite, or the weights are not.
            RuntimeError: it has run before, and `resume` is not set.
            Interrupted: SIGTERM or SIGINT came; a checkpoint was saved.
        """
        if self._begun and not resume:
            raise RuntimeError("this trainer has run, and its weights are trained; make a new Trainer to begin anew")
        self._begun = True
        with world(self.config.trainer.device) as here, listening() as flag, kernels.use(self.config.kernels):
            quiet = self.quiet or not here.first
            if self.out is not None:
                check_same_run(self.out, self.config, resume)
            state = State(self.model, self.objective, self.config, here)
            damaged: list[str] = []
            if resume and self.out is not None:
                found = newest_valid(self.out / "checkpoints", damaged)
                if found is not None:
                    state.load(*found)
                elif damaged:
                    raise DamagedFile(f"no checkpoint is whole: {damaged[0]}; begin anew with another --out")
            with ProgressLine(self.steps, state.step, quiet) as line:
                for text in damaged if here.first else ():
                    line.warn(f"skipped a damaged checkpoint: {text}")
                if resume:
                    line.say(f"resumed at step {state.step}" if state.step else "nothing was saved yet; starting anew")
                here.barrier()
                if self.out is not None and here.first:
                    self.out.mkdir(parents=True, exist_ok=True)
                    replace_file(self.out / "config.yaml", to_yaml(self.config).encode())
                log = Log(self.out / "log.jsonl" if self.out is not None and here.first else None, state.step)
                self._train(state, here, flag, log, line)
                metrics = self._finish(state, here, log, line)
            self.model = state.exported()
            return Result(self.model, metrics, state.step, self.out)

    def evaluate(self, split: str = "test") -> dict[str, float]:
        """The model's metrics on `train`, `val` or `test`, as the model is now.

        Raises:
            ValueError: the data have no such part.
        """
        part = getattr(self.splits, split, None)
        if part is None:
            raise ValueError(f"the data have no part {split!r}; they have {', '.join(self._parts())}")
        with world(self.config.trainer.device) as here, kernels.use(self.config.kernels):
            networks = {**self.objective.networks(self.model.to(here.device)), **self.objective.build(self.model)}
            return self._evaluate(networks, part, here)

    def _parts(self) -> list[str]:
        return [name for name in ("train", "val", "test") if getattr(self.splits, name) is not None]

    def _evaluate(self, networks: Mapping[str, nn.Module], split: Split, here: World) -> dict[str, float]:
        rows = self.config.trainer.eval_batch_size or self.config.data.get("batch_size", 64)
        return evaluate(self.objective, networks, split, self._wanted, rows, here, self.config.trainer.seed)

    def _train(self, state: State, here: World, flag: Flag, log: Log, line: ProgressLine) -> None:
        """All steps from the state's own on."""
        config, data = self.config.trainer, self.config.data
        plan = Plan(
            Order(len(self.splits.train), config.seed), data["batch_size"], config.accumulate,
            here.rank, here.size, state.step, self.steps,
        )  # fmt: skip
        window = Window()
        memory = recomputing(state.networks.values()) if config.gradient_checkpointing else nullcontext()
        pin = here.device.type == "cuda"
        with memory, closing(training_batches(self.splits.train, plan, config.seed, data["workers"], pin)) as batches:
            while state.step < self.steps:
                microbatches = [self._prepare(next(batches), here) for _ in range(config.accumulate)]
                self._step(state, microbatches, here, window)
                state.step += 1
                if self._due(state.step, config.log_every):
                    facts = window.close(here, plan.global_batch)
                    line.step(state.step, facts["loss"], facts["samples_per_second"])
                    log.write(state.step, split="train", lr=self._rate(state), **facts)
                self._keep(state, here, flag, log, line)

    def _keep(self, state: State, here: World, flag: Flag, log: Log, line: ProgressLine) -> None:
        """Evaluate and save where it is time, and stop where a signal came."""
        config, stop = self.config.trainer, here.any(bool(flag.number))
        if self.splits.val is not None and not stop and self._due(state.step, config.eval_every):
            self._validate(self.splits.val, state, here, log, line)
        if self._due(state.step, config.checkpoint_every) or stop:
            self._save(state, here)
        if stop:
            saved = ", saved; --resume goes on" if self.out else ""
            line.say(f"stopped by a signal at step {state.step}{saved}")
            raise Interrupted(flag.number or 15)

    def _due(self, step: int, every: int | None) -> bool:
        return step == self.steps or (every is not None and step % every == 0)

    def _prepare(self, microbatch: Microbatch, here: World) -> Microbatch:
        """Drop what nobody reads, and move the rest to the device."""
        return microbatch._replace(batch=select(microbatch.batch, self._wanted, here.device))

    def _step(self, state: State, microbatches: list[Microbatch], here: World, window: Window) -> None:
        """Every phase that is due at this step, then the moving average."""
        share = factor(self.config.schedule, state.step, self.steps)
        state.train_mode()
        for optimizer in state.optimizers:
            optimizer.set_rate(share)
        applied = True
        for phase in self.objective.phases():
            if state.step % phase.every:
                continue
            state.remember_buffers()
            outcome = update(state, self.objective, phase, microbatches, self.config.trainer, here)
            if not outcome.applied:
                state.restore_buffers()
                applied = False
            window.add(phase.name, outcome)
        window.steps += 1
        state.skipped = 0 if applied else state.skipped + 1
        if state.skipped > self.config.trainer.skip_nonfinite:
            raise FloatingPointError(
                f"{state.skipped} steps in a row up to step {state.step + 1} had a gradient that is not finite; "
                "lower optimizer.lr, set trainer.clip_norm, or look for NaN in the data"
            )
        if state.ema is not None and applied:
            state.ema.update(state.model, state.step)

    def _rate(self, state: State) -> float:
        return self.config.optimizer.lr * factor(self.config.schedule, state.step - 1, self.steps)

    def _validate(self, split: Split, state: State, here: World, log: Log, line: ProgressLine) -> None:
        """Metrics on the validation part; the best weights so far are kept when the config asks for them."""
        metrics = self._evaluate(state.evaluated(), split, here)
        line.metrics("val", state.step, metrics)
        log.write(state.step, split="val", **metrics)
        if self.config.trainer.keep_best:
            headline, sign = self.objective.headline, 1 if self.objective.larger_is_better else -1
            if headline not in metrics:
                raise ConfigError(f"trainer.keep_best needs {headline!r}, but only {', '.join(metrics)} are measured")
            state.keep_if_best(sign * metrics[headline])

    def _save(self, state: State, here: World) -> None:
        if self.out is not None and here.first:
            save_checkpoint(
                self.out / "checkpoints", state.step, state.tensors(), state.facts(), self.config.trainer.keep
            )
        here.barrier()

    def _finish(self, state: State, here: World, log: Log, line: ProgressLine) -> dict[str, float]:
        """The one evaluation on the test part, and the model's folder, which appears whole."""
        if state.best is not None:
            state.exported().load_state_dict(state.best[1])
        _check_finite(state.exported())
        name = "test" if self.splits.test is not None else "val"
        split: Split | None = getattr(self.splits, name)
        metrics: dict[str, float] = {}
        if split is not None:
            metrics = self._evaluate(state.evaluated(), split, here)
            line.metrics(name, state.step, metrics)
            if name == "test":
                log.write(state.step, split=name, **metrics)
        if math.isnan(metrics.get("loss", 0.0)):
            raise FloatingPointError(f"the loss on {name} is NaN, so there is no model; lower optimizer.lr")
        if self.out is not None and here.first and self._registered:
            weights.save(state.exported(), self.out / "model")
        elif self.out is not None and not self._registered:
            who = type(self.model).__name__
            line.say(
                f"{who} is no registered architecture, so there is no model folder; the checkpoint has its weights"
            )
        here.barrier()
        return metrics


def _check_finite(model: nn.Module) -> None:
    """Weights that are NaN or infinite are no model, however few steps ago they became so."""
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise FloatingPointError(
                f"{name} has values that are not finite, so there is no model; lower optimizer.lr, or set "
                "trainer.clip_norm"
            )
