"""Workers that train, and little projects of real images."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path += [str(Path(__file__).parents[1] / folder) for folder in ("worker", "unit")]

from projects import digit_project
from trainer import StartTrainer, Trainer


@pytest.fixture
def start_trainer(tmp_path: Path) -> Iterator[StartTrainer]:
    """Starts workers that train, each in a folder of its own, and ends them after the test."""
    started: list[Trainer] = []

    def start(*options: str) -> Trainer:
        folder = tmp_path / f"trainer{len(started)}"
        folder.mkdir()
        started.append(Trainer(folder, *options))
        return started[-1]

    yield start
    for trainer in started:
        trainer.end()


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """Three classes of 24 digits."""
    return digit_project(tmp_path / "project", classes=3, per_class=24)
