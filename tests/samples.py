"""Data sets and files for tests of the data sets."""

import numpy as np
from PIL import Image

from zoo.config import build
from zoo.training.data import DATA_SETS
from zoo.training.random import generator


def read(name, **options):
    record = DATA_SETS.find(name)
    return record.load(build(record.config, options, f"data {name}"))


def whole(split, rngs=None):
    return split.fetch(range(len(split)), rngs)


def rngs(indices, epoch=0):
    return [generator(0, "augment", epoch, index) for index in indices]


def rows_of(batch):
    """Each sample as bytes, so that sets of samples can be compared."""
    first = batch["image"] if "image" in batch else batch["features"]
    return [row.numpy().tobytes() for row in first]


def write(folder, text, name="table.csv"):
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


def photos(folder, classes=("cat", "dog"), count=6, size=(40, 24)):
    random = np.random.default_rng(0)
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = random.integers(0, 120, (size[1], size[0], 3)) + 100 * number
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{i}.png")
    return str(folder)
