"""Fields of a config from those of another library's."""

from collections.abc import Mapping
from typing import Any

from zoo.config import ConfigError


def translate(
    theirs: Mapping[str, Any],
    renamed: Mapping[str, tuple[str, Any]],
    fixed: Mapping[str, tuple[Any, ...]] | None = None,
) -> dict[str, Any]:
    """Fields of ours from a config of theirs.

    Args:
        theirs: the object in config.json.
        renamed: our field -> theirs, and what it is where the file is silent.
        fixed: their field -> the values that our network knows, the first being what silence means.

    Raises:
        ConfigError: a fixed field has another value.
    """
    for name, allowed in (fixed or {}).items():
        value = theirs.get(name, allowed[0])
        if value not in allowed:
            known = " or ".join(map(repr, allowed))
            raise ConfigError(f"{name} is {value!r}, and this architecture knows only {known}")
    return {ours: theirs.get(their, default) for ours, (their, default) in renamed.items()}
