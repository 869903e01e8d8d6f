"""Files and folders that are either complete or not there, and what a full disk looks like."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tfserve.training.project_folders import LATEST, is_in_the_way

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FULL_WORDS = ("No space left on device", "Disk quota exceeded", "File too large")


@contextmanager
def written_aside(file: Path) -> Iterator[Path]:
    """A path to write to. It takes the place of `file` when the block ends well, and is removed when it does not."""
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_name(f".{file.name}.writing")
    try:
        yield aside
        aside.chmod(0o600)
        _sync(aside)
        aside.replace(file)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def temporary_files(folder: Path) -> Iterator[None]:
    """Keeps what `tempfile` makes in `folder` instead of the machine's own folder, and removes it at the end.

    What a killed attempt has left there goes when the next one begins, or with the folder above.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before
        shutil.rmtree(folder, ignore_errors=True)


def aside_of(folder: Path) -> Path:
    """Where a folder is written before it is complete: beside it, so that it needs only a new name."""
    return folder.with_name(f".{folder.name}.writing")


def make_folder(folder: Path, umask: int | None) -> None:
    """Makes a folder of a project and those above it, unless they exist, with the permissions that `umask` leaves."""
    if not folder.exists():
        make_folder(folder.parent, umask)
        folder.mkdir(exist_ok=True)
        _permit(folder, umask)


def publish(aside: Path, folder: Path, umask: int | None = None) -> None:
    """Gives a folder that is complete its name, and lets `latest` beside it lead there.

    The permissions are those that `umask` leaves; without one they stay as they are.
    """
    for each in aside.rglob("*"):
        if each.is_file():
            _sync(each)
        _permit(each, umask)
    _permit(aside, umask)
    aside.rename(folder)
    try:
        link_latest(folder)
    except OSError as error:  # the result is complete without it
        print(f"{folder.parent / LATEST} could not be changed, so it does not lead to {folder}: {error}", flush=True)


def link_latest(folder: Path) -> None:
    """`latest` beside `folder` leads there from now on, without a moment in between; unless a user's own is there."""
    latest = folder.parent / LATEST
    if is_in_the_way(latest):
        print(f"{latest} is no link, so it was left as it is; the result is {folder}", flush=True)
        return
    new = folder.parent / f".{LATEST}.{folder.name}"
    new.unlink(missing_ok=True)
    new.symlink_to(folder.name, target_is_directory=True)
    new.replace(latest)


def tells_full_disk(error: BaseException) -> bool:
    """Whether an error, ours or TensorFlow's, or what it came from, means that no more can be written."""
    each: BaseException | None = error
    while each is not None:
        if isinstance(each, OSError) and each.errno in _FULL:
            return True
        if any(words in str(each) for words in _FULL_WORDS):
            return True
        each = each.__cause__ or each.__context__
    return False


def _permit(path: Path, umask: int | None) -> None:
    if umask is not None and not path.is_symlink():
        path.chmod((0o777 if path.is_dir() else 0o666) & ~umask)


def _sync(file: Path) -> None:
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
