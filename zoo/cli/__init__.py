"""The command line: one file per group of commands.

Everything heavy is imported inside the command that needs it, so that help answers without torch.
"""

import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated

import typer

from zoo.cli import errors, models, runs, training, use
from zoo.cli.sample import sample
from zoo.version import __version__

COMMANDS: Mapping[str, Callable[..., None]] = {
    "list": models.list_models,
    "info": models.info,
    "create-config": training.create_config,
    "train": training.train,
    "finetune": training.finetune,
    "evaluate": training.evaluate,
    "predict": use.predict,
    "generate": use.generate,
    "sample": sample,
    "export": use.export,
    "report": runs.report,
}
RUNS: Mapping[str, Callable[..., None]] = {"list": runs.list_runs, "verify": runs.verify, "diff": runs.diff}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the words after `zoo`; by default the process's own.

    Returns:
        The exit code: 0; 2 for a wrong request; 1 for damaged files and other failures.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    words, debug = _take_debug(words)
    with warnings.catch_warnings():
        warnings.showwarning = errors.show_warning
        try:
            command = typer.main.get_command(application())
            with command.make_context("zoo", words) as context:
                command.invoke(context)
            sys.stdout.flush()
        except typer.Exit as end:
            return end.exit_code
        except SystemExit as end:  # a run that a signal stopped
            return end.code if isinstance(end.code, int) else 1
        except BrokenPipeError:  # the reader, such as `head`, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except (Exception, KeyboardInterrupt) as error:
            return errors.report(error, debug)
    return 0


def _take_debug(words: list[str]) -> tuple[list[str], bool]:
    """`--debug` may stand anywhere before a `--`."""
    end = words.index("--") if "--" in words else len(words)
    kept = [word for word in words[:end] if word != "--debug"]
    return kept + words[end:], len(kept) < end


def application() -> typer.Typer:
    """All commands; help is plain text, which reads well everywhere and needs no drawing."""
    app = _typer(_root, COMMANDS)
    app.add_typer(_typer(_show_help, RUNS), name="runs", help="Look at the folders that training wrote.")
    return app


def _typer(callback: Callable[..., None], commands: Mapping[str, Callable[..., None]]) -> typer.Typer:
    app = typer.Typer(
        add_completion=False, rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]}
    )
    app.callback(invoke_without_command=True)(callback)
    for name, function in commands.items():
        app.command(name)(function)
    return app


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"zoo {__version__}")
        raise typer.Exit


def _root(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001 - its callback answers
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error; works anywhere.")] = False,  # noqa: ARG001 - `main` has taken it
) -> None:
    """A zoo of PyTorch models: create, train, fine-tune and use them by name."""
    _show_help(context)


def _show_help(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
