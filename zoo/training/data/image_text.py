"""Images and the texts that describe them: files with captions beside them, tables of both, or WebDataset shards.

Where an image has several captions, training draws one each time, and evaluation takes the first. Folders of classes
are such data too, once `templates` say what an image of a class is called: a model is then trained as it is asked
(Goyal et al., 2023, "Finetune like you pretrain"), and judged by how often the texts of the right class lie nearest.
"""

import dataclasses
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from zoo.tokenizer import ByteTokenizer, Tokenizer, batch, named_tokenizer, tokenizer_files
from zoo.training.data import DataSet, Spec, Splits
from zoo.training.data.arrays import check_fractions, hold_out
from zoo.training.data.caption_files import Files, files_beside, files_in_table, has_captions_beside
from zoo.training.data.image_folder import MEASURED, find_classes
from zoo.training.data.images import ImageOptions, normalisation
from zoo.training.data.photos import View, open_image
from zoo.training.data.web_shards import Shards, expand, is_shard

LAYOUT = (
    "give a folder of images with a .txt beside each, a .jsonl, .csv or .tsv table of images and captions, or "
    "WebDataset shards: a folder of .tar files, or shard-{000000..000009}.tar; or folders of classes and data.templates"
)
TABLES = frozenset({".jsonl", ".csv", ".tsv"})
PLACE = "{}"
PARTS = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class ImageText(ImageOptions):
    """Where images and captions are, and how they are presented."""

    path: str
    """A folder, a table, a shard, or several by a name with `{000000..000009}` in it."""
    image: str | None = None
    """The table's column of paths, relative to its folder; by default image, file_name, filepath or path."""
    caption: str | None = None
    """The column of captions, in shards the key of a .json; by default caption, and in tables also text or title."""
    templates: tuple[str, ...] = ()
    """Of folders with one folder for each class: its captions, with `{}` where the folder's name goes."""
    image_size: int = 224
    """Height and width of the square that the model sees."""
    in_channels: Literal[1, 3] = 3
    augment: Literal["none", "crop_flip"] = "none"
    """`crop_flip`: training photos are cropped at random and mirrored half the time, so no caption may speak of left
    and right."""
    min_area: float = 0.5
    """The smallest share of a photo that a random crop keeps."""
    crop_fraction: float = 1.0
    """The central share of the shorter side that is seen without augmentation."""
    seq_len: int = 77
    """Bytes or tokens that are read of a caption at the most, its end included."""
    tokenizer: str | None = None
    """A tokenizer.json, or a model whose tokenizer it is; by default that of the weights to start from, and where they
    have none, the bytes are the tokens."""
    test_fraction: float = 0.1
    """Share of the images to test on, where the files themselves name neither a `test` nor a `val` part."""

    def __post_init__(self) -> None:
        """Refuse numbers out of range."""
        super().__post_init__()
        check_fractions(test_fraction=self.test_fraction)
        if self.seq_len < 2:
            raise ValueError(f"seq_len {self.seq_len} is below 2, a token and the end")
        for template in self.templates:
            if PLACE not in template:
                raise ValueError(f"template {template!r} has no {PLACE}, in whose place the name of a class goes")
        for name in ("min_area", "crop_fraction"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} {getattr(self, name)} is not in (0, 1]")


class Source(Protocol):
    """Samples, wherever they lie."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def photo(self, index: int) -> tuple[str, bytes | None]:
        """What to call a photo, and its bytes; None where that is the path of its file."""
        ...

    def captions(self, index: int) -> Sequence[str]:
        """The captions of a sample, one or more."""
        ...


@dataclass(frozen=True, kw_only=True)
class Captioned:
    """One part; photos are decoded and captions become tokens when they are fetched."""

    source: Source
    rows: np.ndarray
    """(samples,), which of the source's."""
    view: View
    reader: Tokenizer
    seq_len: int
    targets: np.ndarray | None = None
    """(samples of the source,), the class of each, where there are some."""

    def __len__(self) -> int:
        return len(self.rows)

    def fetch(self, indices: Sequence[int], rngs: Sequence[np.random.Generator] | None) -> dict[str, Tensor]:
        """`image` (batch, channels, image_size, image_size) and `tokens` (batch, seq_len), each text with its end.

        Besides them `target` (batch,) where there are classes.
        """
        images, texts = [], []
        for place, index in enumerate(indices):
            rng, row = None if rngs is None else rngs[place], int(self.rows[index])
            captions = self.source.captions(row)
            texts.append(captions[0 if rng is None else int(rng.integers(len(captions)))])
            images.append(self.view(open_image(*self.source.photo(row)), rng))
        made = {"image": torch.stack(images), "tokens": read_captions(self.reader, texts, self.seq_len)}
        if self.targets is None:
            return made
        return {**made, "target": torch.from_numpy(self.targets[self.rows[np.asarray(indices)]])}


def read_captions(reader: Tokenizer, texts: Sequence[str], seq_len: int) -> Tensor:
    """(texts, seq_len) int64, each text with its end."""
    return batch(reader, texts, max_seq_len=seq_len, fill=True, end=True)["tokens"]


class _Part(NamedTuple):
    source: Source
    rows: np.ndarray
    targets: np.ndarray | None = None

    def strata(self) -> np.ndarray:
        return np.zeros(len(self.rows)) if self.targets is None else self.targets[self.rows]


def load(options: ImageText) -> Splits:
    """Find the images and their captions, and divide them; see `ImageText`.

    Raises:
        OSError: there is nothing at the path, or a file cannot be read or is damaged.
        ValueError: it holds no image with a caption, or names something that is not there.
    """
    reader = ByteTokenizer() if options.tokenizer is None else named_tokenizer(options.tokenizer)
    labels, parts = _find(options)
    for name, fraction in (("test", options.test_fraction), ("val", options.val_fraction)):
        if name not in parts and not (name == "test" and "val" in parts):
            whole = parts["train"]
            keep, out = hold_out(whole.strata(), fraction, options.subset_seed, f"{name}_fraction")
            parts["train"], parts[name] = whole._replace(rows=whole.rows[keep]), whole._replace(rows=whole.rows[out])

    plain = View(image_size=options.image_size, in_channels=options.in_channels, crop_fraction=options.crop_fraction)
    mean, std = normalisation(
        _some(parts["train"], plain), options.normalize, options.mean, options.std, options.in_channels
    )
    plain = dataclasses.replace(plain, mean=mean, std=std)
    augmented = dataclasses.replace(plain, augment=options.augment, min_area=options.min_area)

    def part(name: str, view: View = plain) -> Captioned | None:
        if name not in parts or not len(parts[name].rows):
            return None
        return Captioned(**parts[name]._asdict(), view=view, reader=reader, seq_len=options.seq_len)

    train = part("train", augmented)
    if train is None:
        raise ValueError(f"{options.path}: no image has a caption; {LAYOUT}")
    prompts = [read_captions(reader, filled(options.templates, label), options.seq_len).tolist() for label in labels]
    spec = Spec(
        keys=tuple(train.fetch([0], None)),  # what is wrong with a tokenizer shows now
        num_classes=len(labels) or None,
        labels=labels,
        prompts=tuple(tuple(map(tuple, texts)) for texts in prompts),
        in_channels=options.in_channels,
        image_size=options.image_size,
        vocab_size=reader.vocab_size,
        max_seq_len=options.seq_len,
        end_token=reader.stop_tokens[0],
        mean=mean,
        std=std,
        value_range=(0.0, 1.0),
        tokenizer=tokenizer_files(reader),
    )
    return Splits(spec=spec, train=train, val=part("val"), test=part("test"))


def _some(part: _Part, view: View) -> Iterator[Tensor]:
    """Training photos, evenly spaced, in [0, 1] as the model would see them."""
    for row in part.rows[:: max(1, -(-len(part.rows) // MEASURED))]:
        yield view(open_image(*part.source.photo(int(row))), None)[None]


def _find(options: ImageText) -> tuple[tuple[str, ...], dict[str, _Part]]:
    """The classes, if there are some; and the samples of each part that the files name, or all of them as `train`."""
    if not options.templates:
        return (), {name: _Part(source, np.arange(len(source))) for name, source in _sources(options).items()}
    labels, files = find_classes(Path(options.path))
    called = [filled(options.templates, label) for label in labels]
    return labels, {
        name: _Part(
            Files({Path(path): called[target] for path, target in zip(paths, targets, strict=True)}),
            np.arange(len(paths)),
            targets,
        )
        for name, (paths, targets) in files.items()
    }


def filled(templates: Sequence[str], label: str) -> list[str]:
    """What a class is called; `_` in the name of a folder stands for a space."""
    return [template.replace(PLACE, label.replace("_", " ")) for template in templates]


def _sources(options: ImageText) -> dict[str, Source]:
    """Samples with captions of their own, by the parts that the files name."""
    path = Path(options.path)
    if path.suffix.lower() == ".tar":
        return {"train": _shards(expand(options.path), options)}
    if path.suffix.lower() in TABLES:
        if not path.is_file():
            raise FileNotFoundError(f"data.path {options.path!r} is no file; {LAYOUT}")
        return {"train": files_in_table(path, options.image, options.caption)}
    if not path.is_dir():
        raise FileNotFoundError(f"data.path {options.path!r} is no folder; {LAYOUT}")
    if (path / "train").is_dir():
        return {folder.name: _in_folder(folder, options) for folder in folders_read(path)}
    named = {name: sorted(path.glob(f"{name}[-_.]*.tar")) for name in PARTS}
    if named["train"] and (named["val"] or named["test"]):
        return {name: _shards(shards, options) for name, shards in named.items() if shards}
    return {"train": _in_folder(path, options)}


def folders_read(path: Path) -> list[Path]:
    """The folders of the parts below a folder, or where it has no `train`, itself."""
    return [path / name for name in PARTS if (path / name).is_dir()] if (path / "train").is_dir() else [path]


def shards_in(folder: Path) -> list[Path]:
    """The tar files in a folder, not those below it."""
    return sorted(path for path in folder.glob("*.tar") if path.is_file())


def _in_folder(root: Path, options: ImageText) -> Source:
    shards = shards_in(root)
    if shards and (any(map(is_shard, shards)) or not has_captions_beside(root)):
        return _shards(shards, options)
    files, alone = files_beside(root)
    if not len(files):
        raise ValueError(f"{root}: no image here has a caption; {LAYOUT}")
    _say(alone, len(files), "have no .txt beside them")
    return files


def _shards(paths: list[Path], options: ImageText) -> Source:
    shards = Shards(paths, options.caption or "caption")
    _say(shards.incomplete, len(shards), "lack either their image or their caption")
    if not len(shards):
        raise ValueError(
            f"{options.path}: no sample of these shards has both a .jpg, .png or .webp and a .txt or .json"
        )
    return shards


def _say(left_out: Sequence[str], kept: int, why: str) -> None:
    """Warn of samples that cannot be used."""
    if left_out:
        count = len(left_out)
        warnings.warn(
            f"{count:,} of {count + kept:,} samples {why} and are left out; the first is {left_out[0]}", stacklevel=4
        )


DATA = DataSet(name="image_text", config=ImageText, load=load)
