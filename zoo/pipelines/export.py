"""A model as one file that runs without this package: ONNX, or a program of torch.export."""

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.utils._pytree import tree_leaves

from zoo.storage import staged_file

Format = Literal["onnx", "torch"]
SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "torch": ".pt2"}
TOLERANCE = 1e-3
"""The largest difference between the file's answers and the model's, relative to the largest answer."""


class Inequal(RuntimeError):
    """An exported file whose answers are not the model's."""


def export(model: nn.Module, path: str | Path, format: Format = "onnx", *, check: bool = True) -> Path:
    """Write a model in eval mode, for batches of any size and inputs otherwise shaped like its `example_inputs`.

    Args:
        model: with its weights, on the CPU.
        path: the file; one that is there is replaced once the new one has been checked.
        format: `onnx` for onnxruntime and others, `torch` for `torch.export.load`.
        check: whether to run the file on inputs of another batch size and compare.

    Returns:
        The path.

    Raises:
        ValueError: the path has another suffix than `.onnx` or `.pt2`.
        Inequal: the file's answers differ from the model's; nothing was written.
        ImportError: the extra `export` is not installed.
    """
    target = Path(path)
    if target.suffix != SUFFIXES[format]:
        raise ValueError(f"{target}: a file of format {format} ends in {SUFFIXES[format]}; rename it")
    was_training = model.training
    try:
        program = _program(model.eval())
        with staged_file(target) as staging, torch.no_grad():
            _write(program, staging, format)
            if check:
                _compare(model, staging, format)
    finally:
        model.train(was_training)
    return target


def _program(model: nn.Module) -> ExportedProgram:
    make: Any = model.example_inputs
    inputs: dict[str, Tensor] = make(2)
    shapes = {name: {0: Dim("batch")} for name in inputs}
    return torch.export.export(model, (), inputs, dynamic_shapes=shapes)


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


def _compare(model: nn.Module, path: Path, format: Format) -> None:
    make: Any = model.example_inputs
    inputs: dict[str, Tensor] = make(3)
    found = _run_onnx(path, inputs) if format == "onnx" else _run_torch(path, inputs)
    expected = [leaf for leaf in tree_leaves(model(**inputs)) if isinstance(leaf, Tensor)]
    for answer, truth in zip(found, expected, strict=True):
        error = float((answer - truth).abs().max() / truth.abs().max().clamp(min=1e-12))
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
