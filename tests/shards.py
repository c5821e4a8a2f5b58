"""Images with captions, in tar files and in folders, for tests of the data `image_text`."""

import io
import json
import tarfile

import numpy as np
from PIL import Image


def picture(number, size=(12, 10), kind="PNG"):
    """The bytes of an image whose colour tells its number."""
    pixels = np.full((size[1], size[0], 3), [number % 256, 20, 255 - number % 256], np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format=kind)
    return file.getvalue()


def tar(path, members):
    """Write a tar file of (name, bytes or text) in the given order."""
    with tarfile.open(path, "w") as file:
        for name, content in members:
            content = content.encode() if isinstance(content, str) else content
            header = tarfile.TarInfo(name)
            header.size = len(content)
            file.addfile(header, io.BytesIO(content))
    return path


def samples(first, count, ending="png"):
    """Members of a shard: numbered images, each followed by its caption."""
    for number in range(first, first + count):
        yield f"{number:04}.{ending}", picture(number)
        yield f"{number:04}.txt", f"picture {number}"


def folder(path, numbers):
    """Images with a text beside each."""
    path.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        (path / f"{number:03}.png").write_bytes(picture(number))
        (path / f"{number:03}.txt").write_text(f"picture {number}\n")
    return path


def table(path, rows):
    """A .jsonl, .csv or .tsv of rows with the same keys, and below its folder the images that they name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    else:
        mark = "," if path.suffix == ".csv" else "\t"
        path.write_text("\n".join(mark.join(row) for row in [list(rows[0]), *(list(row.values()) for row in rows)]))
    return path


def read(part, rngs=None, indices=None):
    """The captions of a part, and the numbers that the colours of its images tell; normalize must be none."""
    batch = part.fetch(range(len(part)) if indices is None else indices, rngs)
    texts = [bytes(row).rstrip(b"\0").decode() for row in batch["tokens"].tolist()]
    return texts, (batch["image"][:, 0].mean((1, 2)) * 255).round().int().tolist()
