"""The data sets that come with scikit-learn, divided the way that figures about them are usually given."""

from typing import Any

import numpy as np


def read(name: str) -> tuple[Any, np.ndarray, np.ndarray]:
    """One of scikit-learn's own data sets; nothing is downloaded.

    Args:
        name: as in `sklearn.datasets.load_<name>`.

    Returns:
        Its record with `data`, `target` and names, and the indices of the training and of the test part, which are
        those of `train_test_split(test_size=0.2, random_state=0)`.

    Raises:
        ValueError: scikit-learn is not installed.
    """
    try:
        from sklearn import datasets
        from sklearn.model_selection import train_test_split
    except ModuleNotFoundError:
        raise ValueError(f"data {name!r} is part of scikit-learn; pip install 'zoo[train]'") from None
    record = getattr(datasets, f"load_{name}")()
    train, test = train_test_split(np.arange(len(record.target)), test_size=0.2, random_state=0)
    return record, np.asarray(train), np.asarray(test)
