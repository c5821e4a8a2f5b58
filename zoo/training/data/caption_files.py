"""Images with captions as files: a text beside each image, or a table that names images and says what they show."""

import itertools
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from zoo.registry import did_you_mean
from zoo.training.data.image_folder import SUFFIXES
from zoo.training.data.labelled_text import read_lines, read_rows
from zoo.training.data.web_shards import captions_in_lines, captions_of

IMAGE_COLUMNS = ("image", "file_name", "filepath", "path")
CAPTION_COLUMNS = ("caption", "text", "title")
"""What the columns of such tables are usually called, the likeliest first."""
LOOKED_AT = 1000
"""Entries of a folder that are enough to know whether its photos have captions."""


class Files:
    """Samples that are files: the path of each photo, and its captions."""

    def __init__(self, captions: Mapping[Path, Sequence[str]]) -> None:
        """Keep what each photo shows."""
        self.paths, self._captions = list(captions), list(captions.values())

    def __len__(self) -> int:
        return len(self.paths)

    def photo(self, index: int) -> tuple[str, None]:
        """A sample's photo, which is still to be read."""
        return str(self.paths[index]), None

    def captions(self, index: int) -> Sequence[str]:
        """The captions of a sample, one or more."""
        return self._captions[index]


def files_beside(root: Path) -> tuple[Files, list[str]]:
    """The photos below a folder, each with the .txt file of its name; a line of that is a caption.

    Returns:
        The samples; and the photos that have no such file.

    Raises:
        OSError: a text cannot be read.
        ValueError: a text is empty.
    """
    captions, alone = {}, []
    for photo in photos_below(root):
        beside = photo.with_suffix(".txt")
        if beside.is_file():
            captions[photo] = captions_in_lines(str(beside), "\n".join(read_lines(beside)))
        else:
            alone.append(str(photo))
    return Files(captions), alone


def has_captions_beside(root: Path) -> bool:
    """Whether one of the first photos found below a folder has a .txt file of its name."""
    some = itertools.islice(root.rglob("*"), LOOKED_AT)
    return any(_is_photo(path, root) and path.with_suffix(".txt").is_file() for path in some)


def photos_below(root: Path) -> Iterator[Path]:
    """The images below a folder in the order of their paths; what is hidden is not looked at."""
    yield from (path for path in sorted(root.rglob("*")) if _is_photo(path, root))


def _is_photo(path: Path, root: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
    return not hidden and path.suffix.lower() in SUFFIXES and path.is_file()


def files_in_table(path: Path, image: str | None, caption: str | None) -> Files:
    """What a table says; rows of the same image are several captions of it.

    Args:
        path: a .jsonl, .csv or .tsv file.
        image: the column of the images' paths, relative to the file's folder; None for one that is usually called so.
        caption: the column of captions, likewise.

    Raises:
        OSError: the table cannot be read.
        ValueError: a column is missing, or a row has no image inside the table's folder, or no caption; the message
            names its line.
    """
    rows = read_rows(str(path))
    if not rows:
        raise ValueError(f"{path}: the file holds no rows; give each image and its caption one")
    columns = list(rows[0][1])
    image = _column(path, columns, image, IMAGE_COLUMNS, "image")
    caption = _column(path, columns, caption, CAPTION_COLUMNS, "caption")
    folders: dict[Path, bool] = {}
    captions: dict[Path, list[str]] = {}
    for line, row in rows:
        where = f"{path}, line {line}"
        file = _inside(where, path.parent, row.get(image), folders)
        captions.setdefault(file, []).extend(captions_of(where, row.get(caption), caption))
    return Files(captions)


def _column(path: Path, columns: Sequence[str], name: str | None, usual: Sequence[str], option: str) -> str:
    known = ", ".join(columns)
    if name is None:
        found = next((each for each in usual if each in columns), None)
        if found is None:
            raise ValueError(f"{path}: none of the columns {known} is called {usual[0]!r}; name one by data.{option}")
        return found
    if name not in columns:
        raise ValueError(f"{path}: there is no column {name!r}{did_you_mean(name, columns) or f'; it has {known}'}")
    return name


def _inside(where: str, root: Path, name: Any, folders: dict[Path, bool]) -> Path:
    """An image's path, which lies below the table's folder also when links are followed.

    Args:
        where: the row, for messages.
        root: the table's folder.
        name: what the row says.
        folders: whether a folder lies below `root`, as found so far.
    """
    if not isinstance(name, str) or not name.strip() or "\0" in name:
        raise ValueError(f"{where}: {name!r} is no path of an image; fill it in")
    outside = ValueError(f"{where}: {name!r} lies outside the table's folder; give a path relative to and below it")
    if PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive or ".." in PureWindowsPath(name).parts:
        raise outside
    path, above = root / name, root.resolve()
    if path.parent not in folders:
        folders[path.parent] = path.parent.resolve().is_relative_to(above)
    try:
        is_link = stat.S_ISLNK(path.lstat().st_mode)
    except OSError:
        raise ValueError(f"{where}: there is no image {name!r} in {root}; leave the row out") from None
    if not folders[path.parent] or (is_link and not path.resolve().is_relative_to(above)):
        raise outside
    return path
