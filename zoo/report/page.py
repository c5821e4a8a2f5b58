"""One HTML page from plain pieces; whatever is not an `Html` already is escaped, so nobody's text becomes markup."""

import base64
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zoo.report.plots import COLOURS, Drawing


class Html(NamedTuple):
    """Markup; every other value becomes text."""

    markup: str


Piece = Html | str | int | float | None


class Section(NamedTuple):
    """A part of the page under a heading."""

    title: str
    body: Html
    lead: str = ""
    """A sentence below the heading."""


class Part(NamedTuple):
    """Some sections of the page, and the PNGs that show the same plots."""

    sections: tuple[Section, ...]
    files: Mapping[str, bytes] = {}


def tag(name: str, *children: Piece, **attributes: Piece) -> Html:
    """An element.

    Args:
        name: such as `p`.
        children: its content in order; None is left out.
        attributes: `class_` stands for `class`, other `_` for `-`; None is left out.
    """
    words = [
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    ]
    return Html(f"<{name}{''.join(words)}>{join(children).markup}</{name}>")


def join(pieces: Iterable[Piece]) -> Html:
    """Pieces one after the other."""
    return Html(
        "".join(
            piece.markup if isinstance(piece, Html) else html.escape(str(piece))
            for piece in pieces
            if piece is not None
        )
    )


def page(title: str, eyebrow: str, top: Piece, sections: Sequence[Section], footer: str) -> str:
    """The whole document: no script, no link, no file beside it.

    Args:
        title: the headline.
        eyebrow: a line above it.
        top: what stands below it.
        sections: the rest, in order.
        footer: a last line.
    """
    head = join(
        [
            Html('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
            tag("title", title),
            tag("style", Html(_stylesheet())),
        ]
    )
    header = tag("header", tag("p", eyebrow, class_="eyebrow"), tag("h1", title), top)
    body = tag("main", header, *map(_section, sections), tag("footer", footer))
    return f'<!doctype html>\n<html lang="en">\n<head>{head.markup}</head>\n<body>{body.markup}</body>\n</html>\n'


def _section(section: Section) -> Html:
    lead = tag("p", section.lead, class_="lead") if section.lead else None
    return tag("section", tag("h2", section.title), lead, section.body)


def _stylesheet() -> str:
    light, dark = ("".join(f"--{name}:{both[theme]};" for name, both in COLOURS.items()) for theme in (0, 1))
    themes = f":root{{{light}}}@media(prefers-color-scheme:dark){{:root{{{dark}}}}}"
    return themes + Path(__file__).with_name("page.css").read_text(encoding="utf-8")


def figure(drawing: Drawing, caption: str = "") -> Html:
    """A plot, which a screen reader calls by its name."""
    svg = drawing.svg().replace("<svg", f'<svg role="img" aria-label="{html.escape(drawing.name)}"', 1)
    return tag("figure", Html(svg), tag("figcaption", caption) if caption else None)


def wide(piece: Html) -> Html:
    """Something that is moved sideways where the window is too narrow for it."""
    return tag("div", piece, class_="scroll")


def side_by_side(*pieces: Html) -> Html:
    """Pieces that share the width where that is enough for them."""
    return tag("div", *pieces, class_="row")


def in_columns(*pieces: Html) -> Html:
    """Pieces in columns of one width, whatever their number."""
    return tag("div", *pieces, class_="row columns")


def facts(values: Mapping[str, Any]) -> Html:
    """Names and values."""
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in values.items()))


def table(header: Sequence[Piece], rows: Iterable[Sequence[Piece]]) -> Html:
    """A table."""
    body = (tag("tr", *(tag("td", cell) for cell in row)) for row in rows)
    head = tag("thead", tag("tr", *(tag("th", word) for word in header)))
    return wide(tag("table", head, tag("tbody", *body)))


def bars(values: Sequence[tuple[str, float, str]]) -> Html:
    """Horizontal bars: (name, share in [0, 1], what is written beside it)."""
    return tag(
        "div",
        *(
            tag(
                "div",
                tag("span", name, class_="name"),
                tag("span", tag("i", style=f"width:{100 * share:.2f}%"), class_="track"),
                tag("span", note, class_="note"),
            )
            for name, share, note in values
        ),
        class_="bars",
    )


def gallery(images: Sequence[np.ndarray], captions: Sequence[Piece]) -> Html:
    """Images, (height, width) or (height, width, 3) in [0, 1], each over its caption."""
    return tag(
        "div",
        *(
            tag(
                "figure",
                tag("img", src=_data_url(image), alt="", class_="pixels" if max(image.shape) < 64 else None),
                tag("figcaption", caption),
            )
            for image, caption in zip(images, captions, strict=True)
        ),
        class_="gallery",
    )


def _data_url(image: np.ndarray) -> str:
    from matplotlib.image import imsave

    file = io.BytesIO()
    imsave(file, image, vmin=0, vmax=1, cmap="gray", format="png")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def code(text: str) -> Html:
    """A block of code or text whose line breaks count."""
    return tag("pre", tag("code", text))


def folded(title: str, body: Html) -> Html:
    """Something long that opens on a click."""
    return tag("details", tag("summary", title), body)


def note(text: str) -> Html:
    """A remark that must not be overlooked."""
    return tag("p", text, class_="remark")


def hero(value: str, meaning: str, detail: str = "", colour: str | None = None) -> Html:
    """The one number of the page; its colour, as CSS, can be that of what it belongs to."""
    style = None if colour is None else f"color:{colour}"
    return tag(
        "p", tag("b", value, style=style), tag("span", meaning, tag("small", detail) if detail else None), class_="hero"
    )
