"""What `tfserve train` keeps until its training is done: in the project's models/.<id>.work, to go on from.

Whoever trains holds a lock on that folder, so that what a killed training has left can be told from one that runs.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from tfserve.errors import Conflict, NotFound, nearest
from tfserve.ipc.messages import Train
from tfserve.training.checkpoint_files import newest_epoch
from tfserve.training.project_folders import MODELS, results_folder
from tfserve.training.writing import aside_of


class Chosen(msgspec.Struct):
    train_type: str
    parameters: dict[str, Any]


class KeptTraining:
    """One training of a project, by its id."""

    def __init__(self, project: Path, task_id: str) -> None:
        self.task_id = task_id
        models = results_folder(project) / MODELS
        self.result = models / task_id
        self.folder = models / f".{task_id}.work"
        self.findings = self.folder / "findings.json"
        self._project = project
        self._chosen = self.folder / "chosen.json"

    @property
    def epoch(self) -> int:
        """That of the last checkpoint, 0 when there is none."""
        return newest_epoch(self.folder)

    @property
    def chosen(self) -> Chosen:
        return msgspec.json.decode(self._chosen.read_bytes(), type=Chosen)

    def keep(self, chosen: Chosen) -> None:
        self._chosen.write_bytes(msgspec.json.encode(chosen))

    def question(self) -> Train:
        chosen = self.chosen
        return Train(
            job=0, task_id=self.task_id, project_dir=str(self._project), train_type=chosen.train_type,
            parameters=chosen.parameters, findings=str(self.findings), folder=str(self.result),
            work_folder=str(self.folder),
        )  # fmt: skip

    def forget(self) -> None:
        """Leaves no trace; a folder `models` that was made for it goes, too."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.remove_half_result()
        with suppress(OSError):  # other results are in it
            self.folder.parent.rmdir()

    def remove_half_result(self) -> None:
        shutil.rmtree(aside_of(self.result), ignore_errors=True)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nobody else trains it meanwhile. Raises `Conflict`."""
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError:
            raise Conflict(f"{self.folder} belongs to a training that is running.") from None
        finally:
            os.close(folder)


def find(project: Path, task_id: str) -> KeptTraining:
    """Raises `NotFound` that names those that there are."""
    kept = KeptTraining(project, task_id)
    if not kept.findings.is_file():
        names = [each.task_id for each in _all(project)]
        there_are = f" Kept are: {', '.join(names)}." if names else " None is kept."
        raise NotFound(f"No training {task_id!r} is kept in {project / MODELS}{nearest(task_id, names)}.{there_are}")
    return kept


def left_behind(project: Path) -> list[KeptTraining]:
    """Those that can be gone on with and that nobody runs. What they had half written is removed."""
    found = []
    for kept in _all(project):
        with suppress(Conflict, OSError), kept.held():
            kept.remove_half_result()
            found.append(kept)
    return [each for each in found if each.epoch]


def _all(project: Path) -> list[KeptTraining]:
    folders = sorted((results_folder(project) / MODELS).glob(".*.work"))
    return [KeptTraining(project, folder.name[1 : -len(".work")]) for folder in folders]
