"""The names of checkpoints in a training's work folder: also for the supervisor, who never reads what is in them."""

from __future__ import annotations

import re
from pathlib import Path

_NAME = re.compile(r"checkpoint-(\d{6})\.npz")


def path_of(folder: Path, epoch: int) -> Path:
    return folder / f"checkpoint-{epoch:06d}.npz"


def newest_first(folder: Path) -> list[Path]:
    return [file for _, file in _found(folder)]


def newest_epoch(folder: Path) -> int:
    """The epoch of the newest checkpoint, 0 when there is none."""
    return next((epoch for epoch, _ in _found(folder)), 0)


def _found(folder: Path) -> list[tuple[int, Path]]:
    matches = ((_NAME.fullmatch(file.name), file) for file in folder.glob("*.npz"))
    return sorted(((int(match[1]), file) for match, file in matches if match), reverse=True)
