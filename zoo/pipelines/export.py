"""A model as one file that runs without this package: ONNX, or a program of torch.export."""

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.utils._pytree import tree_leaves

from zoo import kernels
from zoo.pipelines.zero_shot import TASK
from zoo.registry import architecture_of
from zoo.storage import check_place, staged_file
from zoo.weights import provenance_of

Format = Literal["onnx", "torch"]
SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "torch": ".pt2"}
TOLERANCE = 1e-3
"""The largest difference between the file's answers and the model's, relative to the largest answer."""


class Inequal(RuntimeError):
    """An exported file whose answers are not the model's."""


def export(
    model: nn.Module,
    path: str | Path,
    format: Format = "onnx",
    *,
    image_size: int | None = None,
    check: bool = True,
) -> Path:
    """Write a model in eval mode, for batches and graphs of any size; other axes are fixed, as `inputs_of` has them.

    Args:
        model: with its weights, on the CPU.
        path: the file; one that is there is replaced once the new one has been checked.
        format: `onnx` for onnxruntime and others, `torch` for `torch.export.load`.
        image_size: height and width of the images that the file will take; by default as `inputs_of` says.
        check: whether to run the file on inputs of another batch size and compare.

    Returns:
        The path.

    Raises:
        ValueError: the path has another suffix than `.onnx` or `.pt2`.
        OSError: no file can appear there.
        Inequal: the file's answers differ from the model's; nothing was written.
        ImportError: the extra `export` is not installed.
    """
    target = Path(path)
    if target.suffix != SUFFIXES[format]:
        raise ValueError(f"{target}: a file of format {format} ends in {SUFFIXES[format]}; rename it")
    check_place(target)
    was_training = model.training
    try:
        program = _program(model.eval(), image_size)
        with staged_file(target) as staging, torch.no_grad():
            _write(program, staging, format)
            if check:
                _compare(model, staging, format, image_size)
    finally:
        model.train(was_training)
    return target


def inputs_of(model: nn.Module, batch_size: int, image_size: int | None = None) -> dict[str, Tensor]:
    """Inputs as the model's `example_inputs` are, but images and videos as large as `zoo.transforms` makes them.

    A network of graphs with a readout is given the graph of each node, so that its file answers for whole graphs.

    Args:
        model: the model; where its weights say nothing of their images, their size stays that of the example.
        batch_size: how many.
        image_size: another height and width.
    """
    make: Any = model.example_inputs
    inputs: dict[str, Tensor] = make(batch_size)
    record = provenance_of(model).preprocessing or {}
    size = image_size if image_size is not None else record.get("image_size")
    if "edges" in inputs and getattr(getattr(model, "config", None), "readout", None) is not None:
        inputs["graph"] = torch.arange(batch_size).repeat_interleave(len(inputs["nodes"]) // batch_size)
    if size is not None and "image" in inputs:
        image = inputs["image"]
        frames = [record.get("frames") or image.shape[2]] if image.ndim == 5 else []
        inputs["image"] = torch.randn(*image.shape[:2], *frames, size, size)
    return inputs


def axes_of(model: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, dict[int, str]]:
    """The axes that a file leaves open, by their number, and what they are called.

    They are the batch, or a graph's sizes; and where a model compares all with all, as images with texts, there may be
    another number of each.
    """
    if "edges" in inputs:
        open_axes = {"nodes": {0: "num_nodes"}, "edges": {1: "num_edges"}, "graph": {0: "num_nodes"}}
        return {name: open_axes[name] for name in inputs}
    return {name: {0: f"{name}_batch" if _compares(model) else "batch"} for name in inputs}


def _compares(model: nn.Module) -> bool:
    """Whether a model compares each row of its first input with each of its second, so that these are no pairs."""
    record = architecture_of(model)
    return record is not None and record.task == TASK


def _uneven(model: nn.Module, batch_size: int, image_size: int | None) -> dict[str, Tensor]:
    """Inputs of which each has another number of rows, where the model takes that."""
    inputs = inputs_of(model, batch_size, image_size)
    if not _compares(model):
        return inputs
    return {name: inputs_of(model, batch_size + more, image_size)[name] for more, name in enumerate(inputs)}


def _program(model: nn.Module, image_size: int | None) -> ExportedProgram:
    inputs = _uneven(model, 2, image_size)
    shapes = {name: {axis: Dim(word) for axis, word in axes.items()} for name, axes in axes_of(model, inputs).items()}
    plain = model.register_forward_hook(_plain)
    try:
        with (
            _quiet(),
            torch.no_grad(),
            kernels.use("reference"),
        ):  # operators of our own would need this package where the file runs
            return torch.export.export(model, (), inputs, dynamic_shapes=shapes)
    finally:
        plain.remove()


def _plain(_model: nn.Module, _inputs: tuple[Any, ...], output: Any) -> Any:
    """Several outputs as a plain tuple; a file with a named one opens only where its class is known."""
    return tuple(output) if hasattr(output, "_fields") else output


def _write(program: ExportedProgram, path: Path, format: Format) -> None:
    if format == "torch":
        with path.open("wb") as file:
            torch.export.save(program, file)
        return
    with _quiet():
        written = torch.onnx.export(program, dynamo=True, verbose=False)
    if written is None:
        raise RuntimeError("torch.onnx.export gave no program; this is a fault of torch")
    written.save(path)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch's exporter and the libraries behind it tell their own developers."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)


def _compare(model: nn.Module, path: Path, format: Format, image_size: int | None) -> None:
    inputs = _uneven(model, 3, image_size)
    found = _run_onnx(path, inputs) if format == "onnx" else _run_torch(path, inputs)
    expected = [leaf for leaf in tree_leaves(model(**inputs)) if isinstance(leaf, Tensor)]
    for answer, truth in zip(found, expected, strict=True):
        error = float((answer.float() - truth.float()).abs().max() / truth.float().abs().max().clamp(min=1e-12))
        if not error <= TOLERANCE:
            raise Inequal(
                f"{path.name}: its answers differ from the model's by {error:.2g} of the largest; not written"
            )


def _run_onnx(path: Path, inputs: dict[str, Tensor]) -> list[Tensor]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    answers: Any = session.run(None, {name: value.numpy() for name, value in inputs.items()})
    return [torch.from_numpy(answer) for answer in answers]


def _run_torch(path: Path, inputs: dict[str, Tensor]) -> list[Tensor]:
    with path.open("rb") as file:
        module = torch.export.load(file).module()
    return tree_leaves(module(**inputs))
