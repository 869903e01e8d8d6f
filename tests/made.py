"""Models and files that tests need and that take long to make: once for all processes that tests run in."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def made_by(program: Path, factory: pytest.TempPathFactory, into: Path | None = None) -> Path:
    """A folder of the caller's own with what a program makes, which is given a folder to make it in."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # which the workers of a run have in common
    made = base / f"made by {'-'.join(program.parts[-2:])}"
    with (base / f"{made.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            _make(program, made)
    folder = into or factory.mktemp(program.stem)
    shutil.copytree(made, folder, dirs_exist_ok=True, symlinks=True)
    return folder


def _make(program: Path, made: Path) -> None:
    unfinished = made.with_name(f"{made.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)  # left by a test that timed out
    unfinished.mkdir()
    done = subprocess.run([sys.executable, program, unfinished], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    unfinished.rename(made)
