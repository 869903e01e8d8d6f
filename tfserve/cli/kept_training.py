"""The work folder of `tfserve train`, models/.<id>.work in the project, kept for resuming until the training is done.

A running training holds a lock on its folder, which distinguishes it from the leftovers of a killed one.
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
from tfserve.training.atomic_files import aside_of
from tfserve.training.dataset.project_folders import MODELS, results_folder
from tfserve.training.fit.checkpoint_files import newest_epoch


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
        """The epoch of the last checkpoint, 0 without one."""
        return newest_epoch(self.folder)

    @property
    def chosen(self) -> Chosen:
        return msgspec.json.decode(self._chosen.read_bytes(), type=Chosen)

    def keep(self, chosen: Chosen) -> None:
        self._chosen.write_bytes(msgspec.json.encode(chosen))

    def request(self) -> Train:
        chosen = self.chosen
        return Train(
            job=0, task_id=self.task_id, project_dir=str(self._project), train_type=chosen.train_type,
            parameters=chosen.parameters, findings=str(self.findings), folder=str(self.result),
            work_folder=str(self.folder),
        )  # fmt: skip

    def forget(self) -> None:
        """Deletes everything, including the folder `models` if it is empty."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.remove_half_result()
        with suppress(OSError):  # contains other results
            self.folder.parent.rmdir()

    def remove_half_result(self) -> None:
        shutil.rmtree(aside_of(self.result), ignore_errors=True)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Locks the training against other processes. Raises `Conflict`."""
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError:
            raise Conflict(f"{self.folder} is in use by a running training.") from None
        finally:
            os.close(folder)


def find(project: Path, task_id: str) -> KeptTraining:
    """Raises `NotFound` with a list of the trainings that can be resumed."""
    kept = KeptTraining(project, task_id)
    if not kept.findings.is_file():
        names = [each.task_id for each in _all(project)]
        available = f" Available: {', '.join(names)}." if names else ""
        raise NotFound(f"No training {task_id!r} to resume in {project / MODELS}{nearest(task_id, names)}.{available}")
    return kept


def left_behind(project: Path) -> list[KeptTraining]:
    """The trainings that can be resumed and are not running. Removes their partially written files."""
    found = []
    for kept in _all(project):
        with suppress(Conflict, OSError), kept.held():
            kept.remove_half_result()
            found.append(kept)
    return [each for each in found if each.epoch]


def _all(project: Path) -> list[KeptTraining]:
    folders = sorted((results_folder(project) / MODELS).glob(".*.work"))
    return [KeptTraining(project, folder.name[1 : -len(".work")]) for folder in folders]
