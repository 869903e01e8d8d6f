"""The names of checkpoints in a training's work folder: also for the supervisor, who never reads what is in them."""

from __future__ import annotations

import re
from pathlib import Path

_NAME = re.compile(r"checkpoint-(\d{6})\.npz")


def path_of(folder: Path, epoch: int) -> Path:
    return folder / f"checkpoint-{epoch:06d}.npz"


def newest_first(folder: Path) -> list[Path]:
    return [file for _, file in _found(folder)]


def newest_epoch(work_folder: Path) -> int:
    """How many epochs are kept: those of the newest checkpoint in each folder in the work folder, together."""
    folders = [each for each in work_folder.iterdir() if each.is_dir()] if work_folder.is_dir() else []
    return sum(next((epoch for epoch, _ in _found(folder)), 0) for folder in [work_folder, *folders])


def _found(folder: Path) -> list[tuple[int, Path]]:
    matches = ((_NAME.fullmatch(file.name), file) for file in folder.glob("*.npz"))
    return sorted(((int(match[1]), file) for match, file in matches if match), reverse=True)
