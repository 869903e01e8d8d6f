"""What a candidate delivers, and how its trainings on the folds ended."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from tfserve.training.atomic_files import written_aside
from tfserve.training.fit.candidates import slug
from tfserve.training.fit.checkpoints import State, encoded


@dataclass
class Delivered:
    """A trained network, with probabilities as its output, and the size (height, width) of the images that it takes."""

    network: Any
    size: tuple[int, int]
    backbone: str
    state: State | None = None


class FoldStates:
    """How the trainings of the candidate `name` on the folds ended, kept in the work folder for later attempts."""

    def __init__(self, work: Path, name: str) -> None:
        self._work, self._name = work, name

    def keep(self, fold: str, state: State) -> None:
        with written_aside(self._file(fold)) as file:
            file.write_bytes(encoded(state))

    def read(self, folds: int) -> list[State]:
        files = (self._file(f"fold {number + 1}") for number in range(folds))
        return [msgspec.json.decode(file.read_bytes(), type=State) for file in files if file.is_file()]

    def _file(self, fold: str) -> Path:
        return self._work / slug(f"{self._name} {fold}") / "state.json"


def useful_epochs(states: list[State]) -> int:
    """For as many epochs a training on a fold made progress, in the median."""
    useful = [each.best_epoch if each.epoch < each.epochs else each.epochs for each in states]
    return round(float(np.median(useful)))
