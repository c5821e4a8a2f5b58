"""How another library names and shapes a model's tensors, as data that works in both directions."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from zoo.weights.fit import ADAPTABLE, MismatchError
from zoo.weights.tensors import Later, Lazy


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where everything of one model stands in another library's checkpoints."""

    renamed: Mapping[str, str]
    """Our module or tensor -> theirs. The longest name of ours that a tensor's name begins with decides; the rest of
    it stays: `stem.conv -> conv1` takes `stem.conv.weight` to `conv1.weight`."""
    joined: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Our tensor -> theirs, which are ours cut along the first axis into equal parts."""
    shaped: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Our tensor -> the shape in which they store the same numbers."""
    squeezed: Collection[str] = ()
    """Our tensors whose first axis, of length 1, they leave out."""
    transposed: Collection[str] = ()
    """Our matrices that they store with rows and columns exchanged."""
    reordered: Mapping[str, Tensor] = field(default_factory=dict)
    """Our tensor -> for each of its rows, which row it is of theirs."""
    copies: Mapping[str, str] = field(default_factory=dict)
    """A tensor of theirs -> the one of theirs that it repeats where weights are tied. Files may hold both, if they are
    equal, or either."""
    writes_copies: bool = False
    """Whether their present release writes both, or the latter alone."""
    stand_ins: Mapping[str, str] = field(default_factory=dict)
    """A tensor of theirs -> the one of theirs that does its work in files that lack it."""
    computed: Mapping[str, Callable[[], Tensor]] = field(default_factory=dict)
    """Our tensor -> what makes it; their files do not hold it, for nobody learns it."""
    lacking: tuple[str, ...] = ()
    """Our submodules and tensors that they do not have, such as the other one of two towers: they are not written, and
    drawn anew where theirs are read."""
    constants: Mapping[str, Callable[[], Tensor]] = field(default_factory=dict)
    """A tensor of theirs that ours does without -> what it must be for that."""
    unused: tuple[str, ...] = ()
    """Regular expressions for tensors of theirs that this model does not have; they are passed over."""
    respelt: tuple[tuple[str, str], ...] = ()
    """Regular expressions and replacements that turn the names of old releases into today's."""

    def theirs(self, name: str) -> tuple[str, ...]:
        """Their names for one of our tensors."""
        if name in self.joined:
            return self.joined[name]
        parts = name.split(".")
        for end in range(len(parts), 0, -1):
            ours = ".".join(parts[:end])
            if ours in self.renamed:
                return (".".join([self.renamed[ours], *parts[end:]]),)
        return (name,)

    def lacks(self, name: str) -> bool:
        """Whether they have nothing for one of our tensors."""
        return any(name == ours or name.startswith(f"{ours}.") for ours in self.lacking)

    def today(self, name: str) -> str:
        """One of their names as their present release spells it."""
        for pattern, replacement in self.respelt:
            name = re.sub(pattern, replacement, name)
        return name


def require(library: str, config: Any, **known: Any) -> None:
    """Refuse a config of which a library has no network, where its tensors alone would not tell.

    Args:
        library: its name.
        config: ours.
        **known: of a field, the value that the library's networks have, or a set of several.

    Raises:
        ValueError: the config differs; the message names the field.
    """
    for name, values in known.items():
        value = getattr(config, name)
        if value not in (values if isinstance(values, set) else {values}):
            architecture = type(config).__module__.removesuffix(".config").rpartition(".")[2]
            raise ValueError(f"{library} has no {architecture} with {name} {value!r}")


def to_ours(
    layout: Layout, names: Mapping[str, tuple[int, ...]], tensors: Mapping[str, Lazy], remedy: str = ""
) -> tuple[dict[str, Lazy], list[str]]:
    """A foreign checkpoint under our names.

    Args:
        layout: where things stand in it.
        names: our tensors and their shapes.
        tensors: the checkpoint.
        remedy: what to do where tensors differ that are one of ours, if anything can be done.

    Returns:
        What was found, by our names, with a head that this model does not have, and below it under its own name what
        nobody knows; and what was passed over.
    """
    left = _without_copies(layout, {layout.today(name): tensor for name, tensor in tensors.items()}, remedy)
    left |= {name: left[other] for name, other in layout.stand_ins.items() if name not in left and other in left}
    _without_constants(layout, left)
    found: dict[str, Lazy] = {}
    for name, shape in names.items():
        parts = [left.pop(their) for their in layout.theirs(name) if their in left]
        if len(parts) == len(layout.theirs(name)):
            found[name] = _as_ours(layout, name, shape, _joined(parts))
        elif name.endswith("num_batches_tracked"):  # BatchNorm did not count before torch 0.4.1
            found[name] = Later((), torch.int64, lambda: torch.tensor(0))
    found |= _computed(layout, found)
    passed = [name for name in left if any(re.fullmatch(pattern, name) for pattern in layout.unused)]
    return {**found, **{_of_head(layout, name): left[name] for name in left if name not in passed}}, passed


def _computed(layout: Layout, found: Mapping[str, Lazy]) -> dict[str, Lazy]:
    """What their files leave out, in the dtype of what they hold; of none of it where they hold nothing of ours."""
    dtypes = [tensor.dtype for tensor in found.values() if tensor.dtype.is_floating_point][:1]
    made = {name: make() for name, make in layout.computed.items() if dtypes}
    return {name: Later(tuple(tensor.shape), dtypes[0], partial(tensor.to, dtypes[0])) for name, tensor in made.items()}


def _of_head(layout: Layout, name: str) -> str:
    """One of their names as ours if it belongs to a head, which this model may do without."""
    for ours, theirs in layout.renamed.items():
        if ours.split(".")[0] in ADAPTABLE["num_classes"] and name.startswith(f"{theirs}."):
            return ours + name.removeprefix(theirs)
    return name


def _without_copies(layout: Layout, tensors: dict[str, Lazy], remedy: str) -> dict[str, Lazy]:
    """What is stored twice, once."""
    left = dict(tensors)
    for copy, original in layout.copies.items():
        if copy in left and original in left:
            if tuple(left[copy].shape) != tuple(left[original].shape) or not _equal(left[copy], left[original]):
                raise MismatchError(f"{copy} differs from {original}, and this model has one tensor for both{remedy}")
            del left[copy]
        elif copy in left:
            left[original] = left.pop(copy)
    return left


def _without_constants(layout: Layout, left: dict[str, Lazy]) -> None:
    """Take out what a model can do without, if it is as it must be."""
    for name, make in layout.constants.items():
        if name in left:
            stored = left.pop(name).read()
            if not torch.equal(stored, make().to(stored.dtype)):
                raise MismatchError(f"{name} is learnt in this checkpoint, and this model has none")


def _equal(first: Lazy, second: Lazy) -> bool:
    return torch.equal(first.read(), second.read())


def _as_ours(layout: Layout, name: str, shape: tuple[int, ...], tensor: Lazy) -> Lazy:
    """One of their tensors in our shape and order; one of a foreign shape stays, for others to complain of."""
    if name in layout.transposed and len(tensor.shape) == 2:
        tensor = _changed(tensor, tuple(reversed(tensor.shape)), lambda matrix: matrix.T.contiguous())
    if name in layout.reordered and tensor.shape[0] == len(layout.reordered[name]):
        tensor = _changed(tensor, tuple(tensor.shape), lambda rows: rows[layout.reordered[name]])
    if name in layout.squeezed and len(tensor.shape) == len(shape) - 1:
        tensor = _changed(tensor, (1, *tensor.shape), lambda numbers: numbers[None])
    if tuple(tensor.shape) == layout.shaped.get(name):
        tensor = _changed(tensor, shape, lambda numbers: numbers.reshape(shape))
    return tensor


def _changed(tensor: Lazy, shape: tuple[int, ...], change: Callable[[Tensor], Tensor]) -> Later:
    return Later(shape, tensor.dtype, lambda: change(tensor.read()))


def _joined(parts: Sequence[Lazy]) -> Lazy:
    """Several tensors as one, along the first axis."""
    if len(parts) == 1:
        return parts[0]
    shape = (sum(part.shape[0] for part in parts), *parts[0].shape[1:])
    return Later(shape, parts[0].dtype, lambda: torch.cat([part.read() for part in parts]))


def to_theirs(layout: Layout, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our tensors as the other library would save them."""
    written: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name in layout.computed or layout.lacks(name):
            continue
        theirs = layout.theirs(name)
        tensor = tensor.reshape(layout.shaped.get(name, tensor.shape[name in layout.squeezed :]))
        if name in layout.reordered:
            tensor = tensor[layout.reordered[name].argsort()]
        if name in layout.transposed:
            tensor = tensor.T
        written |= zip(theirs, tensor.chunk(len(theirs)) if len(theirs) > 1 else (tensor,), strict=True)
    for name, make in layout.constants.items():
        written[name] = make().to(next(iter(written.values())))
    if layout.writes_copies:
        written |= {copy: written[original] for copy, original in layout.copies.items()}
    return written


def overlap(layout: Layout | None, names: Collection[str], tensors: Collection[str]) -> int:
    """How many of our tensors a checkpoint holds, if it has this layout; None stands for our own."""
    if layout is None:
        return sum(name in tensors for name in names)
    present = {layout.copies.get(today, today) for today in map(layout.today, tensors)}
    return sum(all(their in present for their in layout.theirs(name)) for name in names if not layout.lacks(name))
