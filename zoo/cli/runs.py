"""`zoo runs` and `zoo report`: what lies in the folders that training wrote."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from zoo.cli.arguments import Json
from zoo.cli.errors import existing
from zoo.cli.output import note, print_json, print_table
from zoo.storage import DamagedFile, check_file, check_folder, is_run


def list_runs(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where to look, at any depth.")] = Path("runs"),
    as_json: Json = False,
) -> None:
    """List runs: model, data, how far they are, and their last metrics."""
    existing(folder, "folder")
    found = [_summary(path.parent) for path in sorted(folder.rglob("config.yaml")) if is_run(path.parent)]
    if as_json:
        return print_json(found)
    if not found:
        return note(f"there are no runs below {folder}")
    rows = [
        (
            run["run"],
            run["model"],
            run["data"],
            f"{run['step']}/{run['steps']}",
            "unreadable" if run["problem"] else "finished" if run["finished"] else "unfinished",
            ", ".join(f"{name} {value:.4g}" for name, value in run["metrics"].items() if value is not None),
        )
        for run in found
    ]
    print_table(["RUN", "MODEL", "DATA", "STEP>", "STATE", "METRICS"], rows)
    for run in found:
        if run["problem"]:
            note(f"warning: {run['problem']}")


def _summary(run: Path) -> dict[str, Any]:
    from zoo.config import read_yaml
    from zoo.training.log import read_log

    config, events, problem = None, [], None
    try:
        config = read_yaml(run / "config.yaml")
        events = list(read_log(run / "log.jsonl")) if (run / "log.jsonl").is_file() else []
    except (OSError, ValueError) as error:  # this one is shown as unreadable, the others as ever
        problem = str(error)
    measured = [event for event in events if event.get("split") in ("val", "test")]
    last = measured[-1] if measured else {}
    return {
        "run": str(run),
        "model": _get(config, "model", "name"),
        "data": _get(config, "data", "name"),
        "step": max((event.get("step", 0) for event in events), default=0),
        "steps": _get(config, "trainer", "steps"),
        "finished": (run / "model").is_dir(),
        "split": last.get("split"),
        "metrics": {k: v for k, v in last.items() if k not in ("step", "time", "split")},
        "problem": problem,
    }


def _get(config: Any, section: str, key: str) -> Any:
    values = config.get(section) if isinstance(config, Mapping) else None
    return values.get(key) if isinstance(values, Mapping) else None


def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run, or any folder that holds some.")],
    as_json: Json = False,
) -> None:
    """Compare every checkpoint and model with its sha256; exit code 1 when something is damaged."""
    existing(folder, "folder")
    checked = {str(path): problems for path, problems in _verified(folder)}
    if not checked:
        raise FileNotFoundError(f"{folder}: there is no checkpoint and no model in it; give a run's folder")
    if as_json:
        print_json([{"path": path, "problems": problems} for path, problems in checked.items()])
    else:
        rows = [(path, "damaged" if problems else "ok") for path, problems in checked.items()]
        print_table(["PATH", "STATE"], rows)
    problems = [problem for found in checked.values() for problem in found]
    if problems:
        raise DamagedFile("; ".join(problems))


def _verified(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Every checkpoint and every model, and what is wrong in it."""
    from zoo.training.checkpoint import MANIFEST, checkpoints

    for checkpoint_folder in sorted(path for path in (folder, *folder.rglob("*")) if path.is_dir()):
        for path in reversed(checkpoints(checkpoint_folder)):
            yield path, _problems(path, MANIFEST)
        if (checkpoint_folder / "zoo.json").is_file() or _is_model_of_run(checkpoint_folder):
            yield checkpoint_folder, _problems(checkpoint_folder, "zoo.json")


def _is_model_of_run(folder: Path) -> bool:
    """A run's model, also where its manifest is gone."""
    return folder.name == "model" and is_run(folder.parent)


def _problems(folder: Path, manifest: str) -> list[str]:
    """A line for each damaged file, or one for the manifest itself."""
    try:
        check_folder(folder, manifest)
    except DamagedFile as error:
        first = str(error)
    else:
        return []
    found = []
    try:
        for name, entry in json.loads((folder / manifest).read_text(encoding="utf-8"))["files"].items():
            try:
                check_file(folder / name, entry["size"], entry["sha256"])
            except DamagedFile as error:
                found.append(str(error))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # the manifest itself, which `first` says
        return [first]
    return found or [first]


def diff(
    first: Annotated[Path, typer.Argument(metavar="A", help="A run's folder, or a config file.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another one.")],
    as_json: Json = False,
) -> None:
    """Show in which settings two runs differ."""
    from zoo.config import differing

    a, b = _settings(first), _settings(second)
    keys = differing([a, b])
    if as_json:
        return print_json({key: {"a": a.get(key), "b": b.get(key)} for key in keys})
    if not keys:
        return note("the two have the same settings")
    print_table(["SETTING", str(first), str(second)], [(key, _shown(a, key), _shown(b, key)) for key in keys])


def _shown(values: Mapping[str, Any], key: str) -> str:
    return json.dumps(values[key]) if key in values else "-"


def _settings(path: Path) -> dict[str, Any]:
    """Every setting of a run or of a config file, as `section.key` -> value."""
    from zoo.config import ConfigError, flatten, read_yaml

    file = path / "config.yaml" if path.is_dir() else path
    values = read_yaml(existing(file, "run or config file"))
    if not isinstance(values, Mapping):
        raise ConfigError(f"{file}: expected sections such as model and data, got {values!r}")
    return flatten(values)


def report(
    folders: Annotated[list[Path], typer.Argument(metavar="RUN...", help="A run's folder, or several to compare.")],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.html",
            help="The page of several runs, its plots as PNGs in a folder of that name beside it; by default "
            "comparison.html in the current folder.",
        ),
    ] = None,
) -> None:
    """Write the page of a run anew, or of several compared.

    It is RUN/report.html, made from the run's log; of several runs, comparison.html or what --out says.

    Example: zoo report runs/rnn-copying runs/mamba-copying --out copying.html
    """
    from zoo.report import compare_page, run_page

    for folder in folders:
        existing(folder, "run")
        if not is_run(folder):
            raise FileNotFoundError(
                f"{folder}: there is no config.yaml, so this is no run; give a folder that zoo train wrote"
            )
    if len(folders) > 1:
        return typer.echo(compare_page(folders, out or Path("comparison.html")))
    if out is not None:
        raise ValueError(f"--out {out} is for the page of several runs; one run's page is {folders[0] / 'report.html'}")
    typer.echo(run_page(folders[0]))
