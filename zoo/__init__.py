"""A PyTorch model zoo: one readable file per architecture, one trainer that is right for all of them.

The public names are imported when they are first used, so that `import zoo` costs nothing.
"""

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

from zoo.version import __version__

if TYPE_CHECKING:
    from zoo import kernels
    from zoo.convert import export_weights
    from zoo.factory import config, create, describe, list_models
    from zoo.nn.features import features
    from zoo.preprocess import transforms, unnormalize
    from zoo.registry import register
    from zoo.tokenizer import tokenizer
    from zoo.training.run import RunConfig
    from zoo.training.trainer import Trainer
    from zoo.weights import load, save

__all__ = [
    "__version__",
    "create",
    "config",
    "list_models",
    "describe",
    "register",
    "save",
    "load",
    "export_weights",
    "features",
    "transforms",
    "unnormalize",
    "tokenizer",
    "kernels",
    "Trainer",
    "RunConfig",
]

_HOMES = {
    "create": "zoo.factory",
    "config": "zoo.factory",
    "list_models": "zoo.factory",
    "describe": "zoo.factory",
    "register": "zoo.registry",
    "save": "zoo.weights",
    "load": "zoo.weights",
    "export_weights": "zoo.convert",
    "features": "zoo.nn.features",
    "transforms": "zoo.preprocess",
    "unnormalize": "zoo.preprocess",
    "tokenizer": "zoo.tokenizer",
    "Trainer": "zoo.training.trainer",
    "RunConfig": "zoo.training.run",
}


def __getattr__(name: str) -> Any:
    if name == "kernels":  # a package and a public name in one
        return importlib.import_module("zoo.kernels")
    if name not in _HOMES:
        raise AttributeError(f"module 'zoo' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(types.ModuleType):
    """Keeps `zoo.config` the public function when the file zoo/config.py is imported.

    Python binds an imported submodule as an attribute of its package, which would hide a public name spelt the
    same. Such a submodule is reached by `from zoo.config import ...` alone.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in _HOMES or not isinstance(value, types.ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
