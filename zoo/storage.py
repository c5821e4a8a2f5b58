"""Folders that appear whole or not at all, and files whose bytes can be checked.

A folder is staged beside its target, flushed to the disk, given a manifest with the sha256 of every file, and
renamed into place. A crash at any moment leaves either the old folder or the new one, and perhaps a staging
folder whose name says so.
"""

import contextlib
import ctypes
import errno
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

STAGED = ".tmp-"
REPLACED = ".del-"
_MARK = re.compile(r"\.(?:tmp|del)-(\d+)-[0-9a-f]{8}$")
_USED: set[str] = set()
"""The marked names that this process has made; in a container an earlier process may have had the same number."""
MAX_MANIFEST = 16 * 2**20
"""Bytes; a manifest of a thousand files has a hundredth of that."""


class DamagedFile(OSError):
    """A file whose bytes are not what was written; the message names file, defect and remedy."""


@contextlib.contextmanager
def staged_folder(target: Path, manifest: str, facts: Mapping[str, Any] | None = None) -> Iterator[Path]:
    """A folder to fill, which takes the target's place when the block ends without an error.

    Args:
        target: where the folder shall appear; what lies there is replaced only by the whole new one.
        manifest: the name of the file that will list size and sha256 of all others.
        facts: further keys for that file.

    Raises:
        OSError: the disk is full or not writable; the target is as it was, and nothing is left behind.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(target.parent, f"{target.name}.")
    staging = _beside(target, STAGED)
    staging.mkdir()
    try:
        yield staging
        files = {
            str(path.relative_to(staging)): describe_file(path) for path in sorted(staging.rglob("*")) if path.is_file()
        }
        listed = {**(facts or {}), "files": files}
        (staging / manifest).write_text(json.dumps(listed, indent=1) + "\n", encoding="utf-8")
        for path in staging.rglob("*"):
            _sync(path)
        _sync(staging)
        _swap(staging, target)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def _beside(target: Path, kind: str) -> Path:
    """A name next to the target that tells what it is and which process made it."""
    path = target.with_name(f"{target.name}{kind}{os.getpid()}-{uuid.uuid4().hex[:8]}")
    _USED.add(path.name)
    return path


def _swap(staging: Path, target: Path) -> None:
    """Put the staged folder in the target's place; what was there is deleted afterwards."""
    replaced = None
    if not target.exists():
        os.rename(staging, target)
    elif _exchange(staging, target):
        replaced = staging
    else:
        replaced = _beside(target, REPLACED)
        os.rename(target, replaced)
        try:
            os.rename(staging, target)
        except OSError:
            os.rename(replaced, target)
            raise
    _sync(target.parent)
    if replaced is not None:
        shutil.rmtree(replaced, ignore_errors=True)


def _exchange(first: Path, second: Path) -> bool:
    """Let two paths change places in one step, so that neither is ever missing; False where the system cannot."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    here, exchange = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux
    return renameat2(here, os.fsencode(first), here, os.fsencode(second), exchange) == 0


def replace_file(path: Path, data: bytes) -> None:
    """Write a file so that a crash leaves either the old bytes or the new ones."""
    with staged_file(path) as staging:
        staging.write_bytes(data)


def check_place(path: Path) -> None:
    """Refuse a place where no file can appear, before the work whose result shall lie there.

    Raises:
        IsADirectoryError: a folder lies there.
        NotADirectoryError: a folder above it is a file.
        PermissionError: nothing may be written into the folder, or no folder made for it.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{path}: a folder lies there, and this will be a file; give another name")
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir():
        raise NotADirectoryError(f"{path}: {above} is a file, and nothing can lie in a file; give another folder")
    if not os.access(above, os.W_OK | os.X_OK):
        raise PermissionError(f"{path}: you may not write into {above}; give another folder")


@contextlib.contextmanager
def staged_file(path: Path) -> Iterator[Path]:
    """A file to write, which takes the place of `path` when the block ends without an error.

    Raises:
        OSError: the disk is full or not writable; what was there before is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = _beside(path, STAGED)
    try:
        yield staging
        _sync(staging)
        os.replace(staging, path)
    except OSError as error:
        staging.unlink(missing_ok=True)
        if error.filename is None or Path(error.filename) != staging:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None  # nobody knows the staged file's name
    except BaseException:
        staging.unlink(missing_ok=True)
        raise


def _sync(path: Path) -> None:
    """Flush a file, or a folder's entries, to the disk, so that it survives a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def describe_file(path: Path) -> dict[str, Any]:
    """Size in bytes and sha256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return {"size": path.stat().st_size, "sha256": digest.hexdigest()}


def check_folder(folder: Path, manifest: str) -> dict[str, Any]:
    """Compare every file of a folder with its manifest.

    Returns:
        The manifest.

    Raises:
        DamagedFile: the manifest or a file is missing, shorter, longer, or has other bytes.
    """
    try:
        with (folder / manifest).open("rb") as file:
            listed = json.loads(file.read(MAX_MANIFEST))
        files: dict[str, dict[str, Any]] = listed["files"]
        expected = {name: (entry["size"], entry["sha256"]) for name, entry in files.items()}
    except FileNotFoundError:
        raise DamagedFile(f"{folder}: {manifest} is missing, so the folder was never finished; use another") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise DamagedFile(f"{folder / manifest}: not a readable manifest; use another copy of the folder") from None
    for name, (size, sha256) in expected.items():
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise DamagedFile(f"{folder / manifest}: lists {name!r}, which lies outside the folder; do not trust it")
        check_file(folder / name, size, sha256)
    return listed


def check_file(path: Path, size: int, sha256: str) -> None:
    """Compare a file with its size and sha256; DamagedFile says how they differ."""
    if not path.is_file() or path.is_symlink():
        raise DamagedFile(f"{path}: missing, or not a plain file; use another copy")
    actual = path.stat().st_size
    if actual != size:
        raise DamagedFile(
            f"{path}: has {actual} bytes instead of {size}; it is truncated or overwritten, use another copy"
        )
    if describe_file(path)["sha256"] != sha256:
        raise DamagedFile(f"{path}: its sha256 differs from the recorded one; the file is damaged, use another copy")


def remove_folder(folder: Path) -> None:
    """Delete a folder, so that a crash leaves no part of it under its name."""
    shutil.rmtree(folder.rename(_beside(folder, REPLACED)), ignore_errors=True)


def remove_leftovers(folder: Path, prefix: str = "") -> None:
    """Delete what killed processes left half-staged or half-deleted in a folder, under names with this prefix."""
    if folder.is_dir():
        for path in folder.iterdir():
            mark = _MARK.search(path.name)
            if mark and path.name.startswith(prefix) and path.name not in _USED and not _alive(int(mark[1])):
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's, or no such number here
        return True
    return process != os.getpid()


def as_disk_error(error: Exception, path: Path) -> OSError:
    """The OSError behind a failed write by a library that reports the disk's errors as its own."""
    text = str(error)
    code = errno.ENOSPC if "No space left" in text or "os error 28" in text else errno.EIO
    return OSError(code, os.strerror(code), str(path))


def is_run(folder: Path) -> bool:
    """Whether training wrote this folder."""
    return (folder / "config.yaml").is_file()
