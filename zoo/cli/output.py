"""How commands speak: data on standard output, all else on standard error."""

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import typer

PIPED_WIDTH = 10_000
"""Columns where no terminal sets a limit: nothing is wrapped or cut for a program that reads along."""


def print_json(value: Any) -> None:
    """The value as JSON on standard output; NaN and infinity become null, for JSON has neither."""
    typer.echo(json.dumps(_finite(value), indent=1, ensure_ascii=False))


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_table(headers: Sequence[str], rows: Iterable[Sequence[object]], *, indent: int = 0) -> None:
    """Aligned columns on standard output; headers that end in `>` are right-aligned, and only the last column wraps."""
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_header=any(headers))
    for number, header in enumerate(headers, start=1):
        justify = "right" if header.endswith(">") else "left"
        table.add_column(header.rstrip(">"), justify=justify, no_wrap=number < len(headers), overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    console = Console(width=None if sys.stdout.isatty() else PIPED_WIDTH, highlight=False)
    with console.capture() as captured:
        console.print(Padding(table, (0, 0, 0, indent), expand=False))
    for line in captured.get().splitlines():
        typer.echo(line.rstrip())


def heading(text: str) -> None:
    """A line above a block, bold on a terminal."""
    typer.secho(text, bold=True)


def note(text: str) -> None:
    """One line for the reader, kept off standard output."""
    typer.echo(text, err=True)


def short_number(value: float, letters: str = "kMGT") -> str:
    """`11.7 M`, `25.0 M`, `3.63 G`: three digits and a letter for each power of a thousand."""
    for power, letter in reversed(list(enumerate(letters, start=1))):
        if abs(value) >= 999.5 * 1000 ** (power - 1):
            return f"{value / 1000**power:#.3g}".rstrip(".") + f" {letter}"
    return f"{value:g}"
