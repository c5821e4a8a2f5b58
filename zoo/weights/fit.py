"""Giving a model its parameters: drawn anew, or stored ones that must match it name by name.

Models arrive on the meta device, with shapes and no memory. What a checkpoint holds is assigned; what it does not
(a new head, buffers that are never stored) is allocated and left to the model's own `init_weights`.
"""

import contextlib
import inspect
import itertools
import math
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks

from zoo.config import ConfigError
from zoo.registry import Architecture, did_you_mean
from zoo.storage import DamagedFile
from zoo.weights.tensors import Lazy

ADAPTABLE = {"num_classes": ("head", "aux_heads"), "in_channels": ("stem", "embed"), "image_size": ("embed", "head")}
"""Config field -> the submodules whose shapes follow it; they are adapted when the user names the field. Those of an
image are looked for in a model's `towers` too."""
POSITIONS = 3
"""Axes of an embedding of positions, (1, positions, dim)."""
MAX_UNSTORED = 2**28
"""Bytes of buffers, such as tables of positions, that a config from a file may ask for beside its stored tensors."""


class MismatchError(ValueError):
    """Stored tensors and a model that do not belong together."""


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What became of a checkpoint's tensors."""

    source: str
    loaded: int
    """How many tensors were taken as they are."""
    adapted: tuple[str, ...] = ()
    """What was changed to fit, or drawn anew, and how."""
    ignored: tuple[str, ...] = ()
    """Stored tensors that were not used."""
    format: str = "zoo"
    """Whose names the checkpoint has: `zoo`, `torchvision`, `timm`, ..."""

    def __str__(self) -> str:
        """Everything in one line."""
        unused = [f"not used: {', '.join(self.ignored)}"] if self.ignored else []
        names = "" if self.format == "zoo" else f" ({self.format}'s names)"
        return "; ".join([f"{self.loaded} tensors from {self.source}{names}", *self.adapted, *unused])


def on_meta(architecture: Architecture, config: Any, beside: Collection[str] | None = None) -> nn.Module:
    """The model with shapes and no memory.

    Args:
        architecture: its record.
        config: an instance of the record's config.
        beside: for a config from a file, the names of the tensors stored beside it; a model of another order of
            magnitude is refused before it costs time or memory.

    Raises:
        ConfigError: no model can be built like this.
        DamagedFile: the model is much larger than what is stored.
    """
    limit = contextlib.nullcontext() if beside is None else _at_most(20 * len(beside) + 1000)
    try:
        with torch.device("meta"), limit:
            model = architecture.model(config)
    except (RuntimeError, ArithmeticError, LookupError) as error:
        raise ConfigError(f"{architecture.name}: cannot be built like this: {str(error).splitlines()[0]}") from None
    unstored = sum(buffer.nbytes for _, buffer in _unstored(model))
    if beside is not None and unstored > MAX_UNSTORED:
        raise DamagedFile(f"config.json asks for {unstored} bytes beside the stored tensors; do not trust it")
    return model


@contextlib.contextmanager
def _at_most(limit: int) -> Iterator[None]:
    """Stop a model from being built once it has more parameters and modules than that."""
    thread, count = threading.get_ident(), itertools.count()

    def check(*_: Any) -> None:
        if threading.get_ident() == thread and next(count) > limit:
            raise DamagedFile("config.json asks for far more tensors than are stored beside it; do not trust it")

    handles = [
        hooks.register_module_parameter_registration_hook(check),
        hooks.register_module_module_registration_hook(check),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def draw(model: nn.Module) -> None:
    """Allocate a model that is on the meta device, and draw its weights with the CPU's random numbers."""
    _allocate(model, model.state_dict())
    _init_weights(model)


def fit(
    model: nn.Module,
    tensors: Mapping[str, Lazy],
    source: str,
    adapt: Collection[str] = (),
    drawn: Collection[str] = (),
) -> LoadReport:
    """Give a model that is on the meta device its stored tensors, in the dtype in which they are stored.

    Args:
        model: shapes, and the names to look for.
        tensors: by the model's own names.
        source: what to call them in messages.
        adapt: config fields in which the model may differ from the checkpoint; see `ADAPTABLE`.
        drawn: names that the checkpoint's library has nothing for, so that they are drawn anew.

    Raises:
        MismatchError: a tensor is missing, unexpected or has another shape; nothing was allocated.
        DamagedFile: a tensor cannot be read.
    """
    expected = model.state_dict(keep_vars=True)
    plan = _plan(model, tensors, source, adapt, drawn)
    _allocate(model, [*(names[0] for names in plan.fresh), *drawn])
    _init_weights(model)
    state: dict[str, Tensor] = {}
    for names, stored in plan.taken:
        tensor, wanted = _read(names, stored, tensors, source), expected[names[0]]
        if tensor.shape != wanted.shape:
            tensor = adapt_channels(tensor, wanted.shape[1]) if wanted.dim() > POSITIONS else _resampled(model, tensor)
        state |= dict.fromkeys(names, _like(wanted, tensor))
    model.load_state_dict(state, strict=False, assign=True)
    _follow_dtype(model, state)
    return LoadReport(
        source=source,
        loaded=len(plan.taken) + len(plan.fresh) - len(plan.notes),
        adapted=(*plan.notes, *((f"{len(drawn)} tensors new, which it cannot hold",) if drawn else ())),
        ignored=tuple(plan.ignored),
    )


def adapt_channels(weight: Tensor, channels: int) -> Tensor:
    """A first convolution's weights for another number of input channels.

    One channel gets the sum of all, so that a grey image does what its coloured copy did; n channels get the old
    ones in turn, scaled by old / n, so that activations keep their size.

    Args:
        weight: (out_channels, in_channels, ...).
        channels: how many the input has now.
    """
    if channels == 1:
        return weight.sum(1, keepdim=True)
    turns = [channel % weight.shape[1] for channel in range(channels)]
    return weight[:, turns] * (weight.shape[1] / channels)


def _resamples(model: nn.Module, stored: Lazy, wanted: Tensor) -> bool:
    """Whether the model can interpolate its positions, and these differ in the side of their square grid alone."""
    axes = stored.dtype.is_floating_point and len(stored.shape) == wanted.dim() == POSITIONS
    if not (hasattr(model, "resample_positions") and axes and stored.shape[::2] == wanted.shape[::2]):
        return False
    return stored.shape[1] - math.isqrt(stored.shape[1]) ** 2 == wanted.shape[1] - math.isqrt(wanted.shape[1]) ** 2


def _resampled(model: Any, positions: Tensor) -> Tensor:
    return model.resample_positions(positions)


def _follow_dtype(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Where all stored numbers have one dtype, what was drawn beside them gets it too."""
    dtypes = {tensor.dtype for tensor in state.values() if tensor.is_floating_point()}
    if len(dtypes) == 1:
        model.to(dtypes.pop())


class _Plan(NamedTuple):
    """What to do with each tensor of a model and of a checkpoint."""

    taken: list[tuple[tuple[str, ...], Lazy]]
    """The model's names, several for tied tensors, and where the values lie."""
    fresh: list[tuple[str, ...]]
    ignored: list[str]
    notes: list[str]


def _plan(
    model: nn.Module, tensors: Mapping[str, Lazy], source: str, adapt: Collection[str], drawn: Collection[str]
) -> _Plan:
    expected, plan = model.state_dict(keep_vars=True), _Plan([], [], [], [])
    missing: list[str] = []
    misfits: list[tuple[str, Lazy]] = []
    for names in tied(expected):
        name, wanted = names[0], expected[names[0]]
        stored = next((tensors[name] for name in names if name in tensors), None)
        if stored is not None and _fits(stored, wanted):
            plan.taken.append((names, stored))
        elif stored is not None and _follows(model, name, "image_size", adapt) and _resamples(model, stored, wanted):
            plan.taken.append((names, stored))
            plan.notes.append(f"{name} interpolated from {stored.shape[1]} to {wanted.shape[1]} positions")
        elif stored is not None and _follows(model, name, "in_channels", adapt) and _fits(stored, wanted, but=1):
            plan.taken.append((names, stored))
            plan.notes.append(f"{name} adapted from {stored.shape[1]} to {wanted.shape[1]} channels")
        elif "num_classes" in adapt and _of_classes(model, name, stored, wanted):
            plan.fresh.append(names)
            plan.notes.append(f"{name} new, {tuple(wanted.shape)} instead of {stored and stored.shape}")
        elif stored is None:
            missing += [name] if name not in drawn else []
        else:
            misfits.append((name, stored))
    unexpected = [name for name in tensors if name not in expected]
    plan.ignored.extend(
        name for name in unexpected if _follows(model, name, "num_classes", adapt) and not is_told(model)
    )
    unexpected = [name for name in unexpected if name not in plan.ignored]
    remedies = [_remedy(model, name, stored, expected[name]) for name, stored in misfits]
    first = remedies.index("") if "" in remedies else 0  # what no field explains; then a remedy would help nobody
    helps = all(remedies) and not missing and not unexpected
    whole = not misfits and not unexpected
    problems = [
        *(gap + _headless(model, missing) * whole for gap in _gap("it lacks", missing, unexpected)),
        *_gap("it holds", unexpected, [*missing, *expected]),
        *(_misfit(name, stored, expected[name]) + remedies[0] * helps for name, stored in misfits[first : first + 1]),
    ]
    if problems:
        more = f" (and {len(misfits) - 1} more)" if len(misfits) > 1 else ""
        raise MismatchError(f"{source} does not fit {type(model).__name__}: {'; '.join(problems)}{more}")
    return plan


def tied(expected: Mapping[str, Tensor]) -> list[tuple[str, ...]]:
    """The names of a model's tensors; several together where they name the same tensor."""
    names: dict[int, list[str]] = {}
    for name, tensor in expected.items():
        names.setdefault(id(tensor), []).append(name)
    return [tuple(group) for group in names.values()]


def _fits(stored: Lazy, wanted: Tensor, but: int | None = None) -> bool:
    """Whether kind and shape agree; `but` is an axis that may differ, the second of a convolution over maps alone."""
    if stored.dtype.is_floating_point != wanted.is_floating_point() or len(stored.shape) != wanted.dim():
        return False
    same = [a == b or axis == but for axis, (a, b) in enumerate(zip(stored.shape, wanted.shape, strict=True))]
    return all(same) and (but != 1 or wanted.dim() > POSITIONS)


def _follows(model: Any, name: str, field: str, adapt: Collection[str]) -> bool:
    parts = name.split(".")
    within = field != "num_classes" and parts[0] in getattr(model, "towers", ())
    return field in adapt and parts[within] in ADAPTABLE[field]


def is_told(model: Any) -> bool:
    """Whether a network, or its class, is told what to draw; classes are then among its inputs and not its answers."""
    return "label" in inspect.signature(model.forward).parameters


def _of_classes(model: Any, name: str, stored: Lazy | None, wanted: Tensor) -> bool:
    """Whether a tensor has as many rows as the model has classes.

    They make up the head of a network that names classes. One that is told them has tables with a row for each, and
    perhaps one more that stands for none; they are known by that number, for it needs several of them.
    """
    if not is_told(model):
        return _follows(model, name, "num_classes", ["num_classes"])
    classes = getattr(model.config, "num_classes", 0)
    rows = wanted.shape[0] - classes in (0, 1) if classes and wanted.dim() else False
    return rows and (stored is None or _fits(stored, wanted, but=0))


def _gap(what: str, names: list[str], others: Iterable[str]) -> list[str]:
    if not names:
        return []
    nearest = did_you_mean(names[0], others).replace("; did you mean", ", nearest is").removesuffix("?")
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return [f"{what} {names[0]!r}{nearest}{more}"]


def _misfit(name: str, stored: Lazy, wanted: Tensor) -> str:
    kinds = [f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}" for tensor in (stored, wanted)]
    return f"{name!r} is {kinds[0]}, but {kinds[1]} in the model"


def _remedy(model: Any, name: str, stored: Lazy, wanted: Tensor) -> str:
    """The field that explains why a tensor does not fit, as the end of a message; empty where none does."""
    if _resamples(model, stored, wanted):
        sides = [math.isqrt(positions) for positions in (stored.shape[1], wanted.shape[1])]
        field = f"image_size={model.config.image_size * sides[0] // sides[1]}"
    elif _follows(model, name, "in_channels", ["in_channels"]) and _fits(stored, wanted, but=1):
        field = f"in_channels={stored.shape[1]}"
    elif _of_classes(model, name, stored, wanted) and _fits(stored, wanted, but=0):
        field = "num_classes"
    else:
        return ""
    return f"; give {field}: the checkpoint's own keeps this tensor, another adapts it"


def _headless(model: Any, missing: list[str]) -> str:
    """What to do with a checkpoint of everything but the head, as the end of a message; empty where more is missing."""
    if is_told(model) or not all(_follows(model, name, "num_classes", ["num_classes"]) for name in missing):
        return ""
    if getattr(model.config, "num_classes", None) is not None:
        return "; it was saved without a head: give num_classes, and one is drawn"
    if getattr(model.config, "tie_embeddings", True) is False:
        return "; it was saved without its head: use a copy that has one, or tie_embeddings=True and train on"
    return ""


def _read(names: tuple[str, ...], stored: Lazy, tensors: Mapping[str, Lazy], source: str) -> Tensor:
    """The value of a tensor; where a checkpoint holds it under several of its names, they must agree."""
    tensor = stored.read()
    copies = [name for name in names if name in tensors]
    for name in copies[1:]:
        if not torch.equal(tensors[name].read().to(tensor.dtype), tensor):
            raise MismatchError(f"{source}: {copies[0]!r} and {name!r} differ, but are one tensor in the model")
    return tensor


def _like(reference: Tensor, tensor: Tensor) -> Tensor:
    """The tensor as what the reference is: a parameter, trainable or not, or a buffer."""
    return nn.Parameter(tensor, reference.requires_grad) if isinstance(reference, nn.Parameter) else tensor


def _unstored(model: nn.Module) -> list[tuple[str, Tensor]]:
    """Buffers that are no part of the state."""
    stored = model.state_dict()
    return [(name, buffer) for name, buffer in model.named_buffers() if name not in stored]


def _allocate(model: nn.Module, names: Iterable[str]) -> None:
    """Give these tensors, and all buffers that are never stored, memory; tied ones stay tied."""
    expected = model.state_dict(keep_vars=True)
    wanted = {id(expected[name]) for name in names}
    state: dict[str, Tensor] = {}
    for group in tied(expected):
        tensor = expected[group[0]]
        if id(tensor) in wanted:
            state |= dict.fromkeys(group, _like(tensor, torch.empty_like(tensor, device="cpu")))
    model.load_state_dict(state, strict=False, assign=True)
    for name, buffer in _unstored(model):
        owner, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(owner), leaf, torch.empty_like(buffer, device="cpu"))


def _init_weights(model: nn.Module) -> None:
    """Let the model fill what has memory; for what is on meta this does nothing."""
    init_weights: Any = model.init_weights
    init_weights()
