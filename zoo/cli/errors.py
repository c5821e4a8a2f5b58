"""Every mistake and every failure as one line on standard error, and as an exit code."""

import errno
import os
import traceback
from pathlib import Path

import typer

from zoo.storage import DamagedFile

WRONG_REQUEST = 2
FAILURE = 1
INTERRUPTED = 130
LONGEST = 600
"""Characters of a message that are shown; some libraries append whole state dicts."""


def report(error: BaseException, debug: bool) -> int:
    """Say what went wrong on standard error.

    Args:
        error: what a command raised, or the parser.
        debug: whether to show the traceback first.

    Returns:
        The exit code: 2 for a wrong request, 1 for damaged files and other failures, 130 when interrupted.
    """
    if debug:
        typer.echo("".join(traceback.format_exception(error)), err=True, nl=False)
    message, code = describe(error)
    message = " ".join(message.split())
    if len(message) > LONGEST:
        message = message[:LONGEST] + " ... (--debug shows all)"
    typer.secho("error: ", fg="red", bold=True, err=True, nl=False)
    typer.echo(message, err=True)
    return code


def describe(error: BaseException) -> tuple[str, int]:
    """The message for an error and the exit code that belongs to it."""
    if hasattr(error, "format_message"):  # the parser's own; which library that is depends on typer's version
        return _usage(error), getattr(error, "exit_code", WRONG_REQUEST)
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return "interrupted", INTERRUPTED
    if isinstance(error, DamagedFile):
        return str(error), FAILURE
    if isinstance(error, OSError):
        request = FileNotFoundError | NotADirectoryError | IsADirectoryError | FileExistsError
        return _os_error(error), WRONG_REQUEST if isinstance(error, request) else FAILURE
    if type(error) is KeyError:  # a bare key says nothing by itself; UnknownName does
        return f"KeyError: {error}; --debug shows where it comes from", WRONG_REQUEST
    if isinstance(error, FloatingPointError):  # before ValueError, which some are too
        return str(error), FAILURE
    if isinstance(error, ValueError | TypeError | KeyError):
        return str(error), WRONG_REQUEST
    if isinstance(error, ImportError):
        return f"{error}; install what is missing, such as the extra `zoo[train]`", FAILURE
    return f"{type(error).__name__}: {error}; --debug shows where it comes from", FAILURE


def _usage(error: BaseException) -> str:
    message = error.format_message().rstrip(".")  # pyright: ignore[reportAttributeAccessIssue] - checked by the caller
    if hasattr(error.__cause__, "errors"):  # pydantic's, which knows the value that typer leaves out
        value = error.__cause__.errors()[0]["input"]  # pyright: ignore[reportOptionalMemberAccess, reportAttributeAccessIssue]
        message = message.replace("Invalid value", f"Invalid value {value!r}", 1)
    context = getattr(error, "ctx", None)
    return f"{message} (see `{context.command_path} --help`)" if context else message


def _os_error(error: OSError) -> str:
    if error.errno is None or error.filename is None:
        message = error.strerror or str(error)
    else:
        message = f"{error.filename}: {(error.strerror or str(error)).lower()}"
    if error.errno == errno.ENOSPC:
        message += "; free some space and try again, `zoo train ... --resume` continues a run"
    return message


def show_warning(message: Warning | str, category: type[Warning], *_: object) -> None:
    """What `warnings.showwarning` is while a command runs: one line, without the place in the code."""
    kind = "" if category is UserWarning else f"{category.__name__}: "
    typer.echo(f"warning: {kind}{' '.join(str(message).split())}", err=True)


def existing(path: Path, what: str) -> Path:
    """The path itself.

    Raises:
        FileNotFoundError: nothing is there.
    """
    if not path.exists():
        raise FileNotFoundError(errno.ENOENT, f"there is no such {what}", os.fspath(path))
    return path
