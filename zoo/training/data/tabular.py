"""Tables of numbers: iris, wine, breast_cancer and diabetes, which scikit-learn brings along, and files."""

import functools
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from zoo.training.data import DataSet, Spec, Splits, bundled
from zoo.training.data.arrays import Arrays, HoldOut, check_fractions, hold_out
from zoo.training.data.table_file import read_table
from zoo.training.random import generator


@dataclass(frozen=True, kw_only=True)
class Bundled(HoldOut):
    """The options of a table that scikit-learn brings along."""

    normalize: Literal["standard", "none"] = "standard"
    """`standard`: every column by the training part's mean and standard deviation."""


@dataclass(frozen=True, kw_only=True)
class TableFile(Bundled):
    """The options of a CSV or NPZ file."""

    path: str
    """Comma, semicolon or tab separated numbers; or an NPZ file with arrays `features` and `target`."""
    target: str = ""
    """The name of the column to be predicted, or its number from 0; the last one when not given."""
    task: Literal["classification", "regression"] = "classification"
    """Whether the target names one of several classes, or is a quantity."""
    header: bool | None = None
    """Whether the first row holds the names of the columns; when not given: if no cell of it is a number."""
    test_fraction: float = 0.2
    """Share of all rows to test on."""

    def __post_init__(self) -> None:
        """Refuse shares that are none."""
        super().__post_init__()
        check_fractions(test_fraction=self.test_fraction)


def load_bundled(name: str, options: Bundled) -> Splits:
    """Read one of scikit-learn's tables; its test part is that of `bundled.read`."""
    record, train, test = bundled.read(name)
    labels = tuple(str(label) for label in getattr(record, "target_names", ()))
    targets = record.target if labels else record.target[:, None]
    columns = tuple(str(name) for name in record.feature_names)
    return _splits(record.data, columns, targets, labels, train, test, options)


def load_file(options: TableFile) -> Splits:
    """Read a table from a file; see `read_table` for what can be wrong with it."""
    table = read_table(options.path, options.target, options.header)
    if options.task == "classification":
        targets, labels = _classes(table.target, options.path)
    elif table.target.dtype.kind == "f":
        targets, labels = table.target[:, None], ()
    else:
        raise ValueError(f"{options.path}: the target holds text, so it is no quantity; set data.task=classification")
    order = generator(options.subset_seed, "test_fraction").permutation(len(targets))
    cut = round(options.test_fraction * len(order))
    train, test = np.sort(order[cut:]), np.sort(order[:cut])
    return _splits(table.features, table.columns, targets, labels, train, test, options)


def _classes(target: np.ndarray, path: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Class numbers in the order of their sorted names."""
    if target.dtype.kind == "f" and (target != np.round(target)).any():
        value = target[target != np.round(target)][0]
        raise ValueError(f"{path}: the target {value} is no class; set data.task=regression, or data.target")
    names, targets = np.unique(target, return_inverse=True)
    if not 2 <= len(names) <= max(2, len(target) // 2):
        raise ValueError(
            f"{path}: {len(names)} different targets in {len(target)} rows are no classes; "
            "set data.task=regression, or data.target to another column"
        )
    return targets, tuple(f"{name:.0f}" if target.dtype.kind == "f" else str(name) for name in names)


def _splits(
    features: np.ndarray,
    names: tuple[str, ...],
    targets: np.ndarray,
    labels: tuple[str, ...],
    train: np.ndarray,
    test: np.ndarray,
    options: Bundled,
) -> Splits:
    """Targets are classes (rows,) where there are labels, else quantities (rows, 1)."""
    strata = targets[train] if labels else np.zeros(len(train))
    keep, out = hold_out(strata, options.val_fraction, options.subset_seed, "val_fraction")
    train, val = train[keep], train[out]
    columns = features.shape[1]
    mean, std = (
        _statistics(features[train]) if options.normalize == "standard" else ((0.0,) * columns, (1.0,) * columns)
    )
    normalised = torch.from_numpy((features - np.array(mean)) / np.array(std)).float()
    target = torch.from_numpy(targets).long() if labels else torch.from_numpy(targets).float()

    def part(rows: np.ndarray) -> Arrays | None:
        return Arrays({"features": normalised[rows], "target": target[rows]}) if len(rows) else None

    target_mean, target_std = ((), ()) if labels else _statistics(targets[train])
    spec = Spec(
        keys=("features", "target"),
        num_classes=len(labels) or 1,
        in_features=columns,
        labels=labels,
        columns=names,
        mean=mean,
        std=std,
        target_mean=target_mean,
        target_std=target_std,
    )
    training = Arrays({"features": normalised[train], "target": target[train]})
    return Splits(spec=spec, train=training, val=part(val), test=part(test))


def _statistics(values: np.ndarray) -> tuple[Any, Any]:
    """Mean and standard deviation of each column; a constant one has std 1."""
    mean, std = values.mean(0), values.std(0)
    constant = std <= 1e-12 * np.abs(mean)
    return tuple(mean.tolist()), tuple(np.where(constant, 1.0, std).tolist())


DATA = (
    *(
        DataSet(name=name, config=Bundled, load=functools.partial(load_bundled, name))
        for name in ("iris", "wine", "breast_cancer", "diabetes")
    ),
    DataSet(name="tabular", config=TableFile, load=load_file),
)
