"""WebDataset shards: tar files in which what belongs to one sample has one name with several endings.

A shard is indexed once, by its headers; a sample is then read by its place in the file, and nothing is ever unpacked.
So a member's name is never the name of a file, whatever it says.

Source: https://github.com/webdataset/webdataset, whose rule for names is kept: a sample's name ends at the first point
behind the last slash.
"""

import itertools
import json
import math
import re
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoo.storage import DamagedFile

PHOTOS = frozenset({"jpg", "jpeg", "png", "webp"})
TEXT, RECORD = "txt", "json"
READ = PHOTOS | {TEXT, RECORD}
MAX_CAPTION = 2**20
"""Bytes of a member that holds captions; more is something else."""
MAX_SHARDS = 100_000
LOOKED_AT = 1000
"""Members that are enough to know what a tar file holds."""
BLOCK = 512
"""A tar file consists of blocks of so many bytes, and ends with one of zeros."""
RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


class Shards:
    """Samples of several shards, each a photo and its captions, found by their places."""

    def __init__(self, paths: Sequence[Path], column: str) -> None:
        """Read the headers of every shard.

        Args:
            paths: the shards.
            column: what the caption is called in a .json member.

        Raises:
            OSError: a shard is missing, cut off or otherwise damaged; the message names it.
            ValueError: two members of one shard have the same name.
        """
        self.paths, self.column = list(paths), column
        self.incomplete: list[str] = []
        """Samples that lack their photo or their caption, as shard and name."""
        places: list[tuple[int, int, int, int, int, bool]] = []
        for number, path in enumerate(self.paths):
            for name, parts in _samples(path).items():
                photo = next((parts[end] for end in parts if end in PHOTOS), None)
                caption = parts.get(TEXT, parts.get(RECORD))
                if photo is None or caption is None:
                    self.incomplete += [f"{path}, {name!r}"] if photo or caption else []
                else:
                    places.append((number, *photo, *caption, TEXT not in parts))
        self.places = np.array(places, dtype=np.int64).reshape(-1, 6)
        """(samples, 6): the shard; where photo and caption begin and how long they are; whether the latter is JSON."""

    def __len__(self) -> int:
        return len(self.places)

    def photo(self, index: int) -> tuple[str, bytes]:
        """What to call a sample's photo in a message, and its bytes."""
        shard, start, size, *_ = self.places[index].tolist()
        return self._member(shard, start, size)

    def captions(self, index: int) -> list[str]:
        """The captions of a sample.

        Raises:
            ValueError: it has none.
        """
        shard, _, _, start, size, is_json = self.places[index].tolist()
        where, content = self._member(shard, start, min(size, MAX_CAPTION))
        if size > MAX_CAPTION:
            raise ValueError(f"{where}: {size:,} bytes are no caption; at most {MAX_CAPTION:,} are read")
        try:
            written = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(f"{where}: not a text in UTF-8 (byte {error.start})") from None
        return captions_in_record(where, written, self.column) if is_json else captions_in_lines(where, written)

    def _member(self, shard: int, start: int, size: int) -> tuple[str, bytes]:
        """What to call a member, whose name stands in the block before it, and its bytes."""
        with self.paths[shard].open("rb") as file:
            file.seek(start - BLOCK)
            header, content = file.read(BLOCK), file.read(size)
        if len(content) < size:
            raise DamagedFile(f"{self.paths[shard]}: cut off since it was opened; use another copy")
        return f"{self.paths[shard]}, {header[:100].split(bytes(1))[0].decode(errors='replace')!r}", content


def _samples(path: Path) -> dict[str, dict[str, tuple[int, int]]]:
    """Name of a sample -> ending -> where that member begins and how many bytes it has."""
    samples: dict[str, dict[str, tuple[int, int]]] = {}
    for member in _members(path):
        sample, ending = _named(member)
        if ending not in READ:
            continue
        parts = samples.setdefault(sample, {})
        if ending in parts:
            raise ValueError(f"{path}: two members are called {member.name!r}; give each sample a name of its own")
        parts[ending] = member.offset_data, member.size
    return samples


def _named(member: tarfile.TarInfo) -> tuple[str, str]:
    """The sample that a member belongs to, and its ending; an empty one for what is no file with a name."""
    folder, slash, last = member.name.rpartition("/")
    stem, _, ending = last.partition(".")
    named = stem and member.isreg() and not member.issparse()
    return f"{folder}{slash}{stem}", ending.lower() if named else ""


def is_shard(path: Path) -> bool:
    """Whether the first members of a tar file include a sample, a photo with its caption; of another file, False."""
    endings: dict[str, set[str]] = {}
    try:
        for member in itertools.islice(_members(path), LOOKED_AT):
            sample, ending = _named(member)
            found = endings.setdefault(sample, set())
            found.add(ending)
            if found & PHOTOS and found & {TEXT, RECORD}:
                return True
    except OSError:
        return False
    return False


def _members(path: Path) -> Iterator[tarfile.TarInfo]:
    """What the headers of a tar file say.

    Raises:
        OSError: it is none, or ends in the midst of something; Python's own reader takes either for its end.
    """
    before = 0
    try:
        with tarfile.open(path, "r:") as tar:
            while (member := tar.next()) is not None:
                if member.size < 0 or member.offset < before:  # it would be read for ever
                    raise tarfile.ReadError(f"a member begins at byte {member.offset}, behind byte {before}")
                before = member.offset + 1
                yield member
                vars(tar)["members"] = []  # it would keep them all
            end = tar.offset
    except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
        raise DamagedFile(
            f"{path}: not a whole tar file ({error}); use another copy, and unpack it if it is compressed"
        ) from None
    with path.open("rb") as file:
        file.seek(end)
        last = bytes(file.read(BLOCK))
    if len(last) < BLOCK or last.strip(b"\0"):
        reason = "cut off" if len(last) < BLOCK else f"damaged at byte {end}"
        raise DamagedFile(f"{path}: not a whole tar file, {reason}; use another copy")


def captions_in_lines(where: str, written: str) -> list[str]:
    """The captions of a text file, one in each line.

    Raises:
        ValueError: there is none.
    """
    captions = [line.strip() for line in written.splitlines() if line.strip()]
    if not captions:
        raise ValueError(f"{where}: holds no caption; write one, or leave image and caption out")
    return captions


def captions_in_record(where: str, written: str, column: str) -> list[str]:
    """The captions of a JSON object, which are a text or a list of texts.

    Raises:
        ValueError: there is none.
    """
    try:
        record = json.loads(written)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: not JSON: {error}") from None
    if not isinstance(record, dict):
        raise ValueError(f"{where}: expected an object, got {type(record).__name__}")
    if column not in record:
        raise ValueError(f"{where}: no {column!r} among {', '.join(record)}; name it by data.caption")
    return captions_of(where, record[column], column)


def captions_of(where: str, value: object, column: str) -> list[str]:
    """The captions that a cell holds: a text, or a list of texts.

    Raises:
        ValueError: it holds neither.
    """
    captions: list[Any] = value if isinstance(value, list) else [value]
    if not captions or not all(isinstance(caption, str) and caption.strip() for caption in captions):
        raise ValueError(f"{where}: {column!r} is no caption, nor a list of some; fill it in or name another")
    return [caption.strip() for caption in captions]


def expand(pattern: str) -> list[Path]:
    """The paths that `{000000..000009}` in a name stands for; a name without it stands for itself.

    Raises:
        ValueError: they are too many, or none.
    """
    ranges = [(int(first), int(last) + 1, len(first)) for first, last in RANGE.findall(pattern)]
    if not 0 < math.prod(max(0, stop - start) for start, stop, _ in ranges) <= MAX_SHARDS:
        raise ValueError(f"{pattern} stands for no shard, or for more than {MAX_SHARDS:,}; give other numbers")
    first, *pieces = RANGE.sub("\0", pattern).split("\0")  # no path has a zero character
    paths: list[Path] = []
    for numbers in itertools.product(*(range(start, stop) for start, stop, _ in ranges)):
        written = [f"{number:0{width}}" for number, (_, _, width) in zip(numbers, ranges, strict=True)]
        paths.append(Path(first + "".join(itertools.chain(*zip(written, pieces, strict=True)))))
    return paths
