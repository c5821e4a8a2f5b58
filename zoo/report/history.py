"""A run's log.jsonl as a table: one row per line that belongs to a split, damaged lines counted, events kept apart."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

Row = Mapping[str, Any]

NOT_METRICS = ("step", "split", "time")


class History(NamedTuple):
    """What a run wrote while it ran."""

    rows: tuple[Row, ...]
    """One per split and step, in that order; a resumed run's second account of a step replaces the first."""
    events: tuple[Row, ...]
    """Lines that tell of something else than a split: start, resume, checkpoint."""
    damaged: tuple[int, ...]
    """Numbers of the lines, from 1, that are not JSON objects: a crash in mid-write leaves one."""

    def column(self, split: str, key: str) -> tuple[list[int], list[float]]:
        """The steps and the values of one metric on one split; values that are not finite numbers are left out."""
        points = [(row["step"], row[key]) for row in self.rows if row["split"] == split and _is_finite(row.get(key))]
        return [step for step, _ in points], [float(value) for _, value in points]

    def metrics(self, split: str) -> list[str]:
        """The names of all metrics that this split was logged with, in order of appearance."""
        keys = dict.fromkeys(key for row in self.rows if row["split"] == split for key in row)
        return [key for key in keys if key not in NOT_METRICS and self.column(split, key)[0]]

    def last(self, split: str) -> dict[str, float]:
        """The final value of every metric of a split; empty where it was never evaluated."""
        return {key: self.column(split, key)[1][-1] for key in self.metrics(split)}

    def event(self, key: str) -> Any:
        """The newest value that an event gave for `key`, or None."""
        return next((row[key] for row in reversed(self.events) if key in row), None)


def read_log(path: str | Path) -> History:
    """Read a log.jsonl.

    Args:
        path: the file; each line should be a JSON object with `step`, `split`, `time` and metrics, or with `event`.

    Raises:
        OSError: it cannot be read.
    """
    rows: dict[tuple[str, int], Row] = {}
    events, damaged = [], []
    lines = Path(path).read_bytes().split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:  # UnicodeDecodeError and JSONDecodeError are both
            row = None
        if not isinstance(row, dict):
            damaged.append(number)
        elif isinstance(row.get("split"), str) and isinstance(row.get("step"), int):
            rows[row["split"], row["step"]] = row
        else:
            events.append(row)
    ordered = tuple(rows[key] for key in sorted(rows, key=lambda key: (key[0], key[1])))
    return History(ordered, tuple(events), tuple(damaged))


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
