"""What a run says: a JSON line per event on disk, and one line of progress on the terminal."""

import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn


def read_log(path: str | Path, damaged: list[int] | None = None) -> Iterator[dict[str, Any]]:
    """The events of a log.

    Args:
        path: its file; each line should be a JSON object.
        damaged: receives the numbers, from 1, of other lines: a crash in mid-write leaves one.

    Raises:
        OSError: it cannot be read.
    """
    for number, line in enumerate(Path(path).read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            event = json.loads(line)
        except ValueError:  # UnicodeDecodeError and JSONDecodeError are both
            event = None
        if isinstance(event, dict):
            yield event
        elif damaged is not None:
            damaged.append(number)


class Log:
    """`log.jsonl`, appended line by line; NaN and infinity are written as null, for they are not JSON."""

    def __init__(self, path: Path | None, step: int) -> None:
        """Open the log where a run begins or resumes.

        Args:
            path: the file; None writes nothing.
            step: events after this step are dropped, for the run is about to live through them again.
        """
        self.path = path
        self.start = time.monotonic()
        if path is not None and path.exists():
            kept = [event for event in read_log(path) if event.get("step", 0) <= step and event.get("split") != "test"]
            self.start -= max((event.get("time", 0.0) for event in kept), default=0.0)
            staged = path.with_suffix(".tmp")
            staged.write_text("".join(json.dumps(event) + "\n" for event in kept), encoding="utf-8")
            os.replace(staged, path)

    def write(self, step: int, **values: Any) -> None:
        """Append one event."""
        if self.path is None:
            return
        event = {"step": step, "time": round(time.monotonic() - self.start, 3)}
        event |= {key: _finite(value) for key, value in values.items()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


class ProgressLine:
    """Loss, rate and time left on standard error: a bar on a terminal, ten lines elsewhere."""

    def __init__(self, total: int, start: int, quiet: bool) -> None:
        """Begin at step `start` of `total`; `quiet` shows nothing."""
        self.console = Console(stderr=True, quiet=quiet, highlight=False)
        self.total, self.start, self.quiet = total, start, quiet
        self.begun = time.monotonic()
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[facts]}"),
            TimeRemainingColumn(compact=True),
            console=self.console,
            transient=True,
            disable=quiet or not self.console.is_terminal,
        )
        self.task = self.bar.add_task("training", total=total, completed=start, facts="")

    def __enter__(self) -> "ProgressLine":
        """Show the bar."""
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the bar."""
        self.bar.stop()

    def step(self, done: int, loss: float, rate: float) -> None:
        """Say that `done` steps are done."""
        self.bar.update(self.task, completed=done, facts=f"loss {loss:.4g}, {rate:,.0f} samples/s")
        tenth = max(1, self.total // 10)
        if not self.quiet and not self.console.is_terminal and (done % tenth == 0 or done == self.total):
            left = (time.monotonic() - self.begun) / max(1, done - self.start) * (self.total - done)
            self.say(f"step {done}/{self.total}  loss {loss:.4g}  {rate:,.0f} samples/s  {left:.0f} s left")

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self.console.print(text, markup=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        """Print a line that matters also to those who want no progress."""
        Console(stderr=True, highlight=False).print(text, markup=False, soft_wrap=True)

    def metrics(self, split: str, step: int, metrics: Mapping[str, float]) -> None:
        """Print what an evaluation found."""
        self.say(f"{split} at step {step}: " + ", ".join(f"{name} {value:.4g}" for name, value in metrics.items()))
