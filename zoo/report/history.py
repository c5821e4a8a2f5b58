"""A run's log.jsonl as a table: one row per line that belongs to a split, damaged lines counted."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from zoo.training.log import read_log

Row = Mapping[str, Any]

NOT_METRICS = ("step", "split", "time")


class History(NamedTuple):
    """What a run wrote while it ran."""

    rows: tuple[Row, ...]
    """One per split and step, in that order; a resumed run's second account of a step replaces the first."""
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


def read_history(path: str | Path) -> History:
    """Read a log.jsonl.

    Raises:
        OSError: it cannot be read.
    """
    damaged: list[int] = []
    events = [event for event in read_log(path, damaged) if _has_place(event)]
    rows = {(event["split"], event["step"]): event for event in events}
    return History(tuple(rows[key] for key in sorted(rows)), tuple(damaged))


def _has_place(event: Row) -> bool:
    return isinstance(event.get("split"), str) and isinstance(event.get("step"), int)


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
