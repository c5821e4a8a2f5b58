"""Libraries that warn while they are imported, which would be an error in a test; import them through this."""

import importlib
import warnings

import pytest


def imported(name):
    """A module of a peer library; where that is not installed, the test is skipped."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip(name.split(".")[0])
        return importlib.import_module(name)
