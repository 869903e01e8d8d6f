"""A real worker that trains, and what it says meanwhile."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from worker_process import WorkerProcess

from tfserve.ipc.messages import ExamineProject, Failed, Progress, ProjectExamined, Train, TrainingEnded

TRAINING_DEADLINE_S = 150.0


class Trainer(WorkerProcess):
    """Keeps all `Progress` in `told`."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.told: list[Progress] = []
        super().__init__(folder, *options)
        self._answers = _Answers(self.told)
        self._socket.settimeout(TRAINING_DEADLINE_S)

    def examine(self, project: Path, kind: str = "classification", **parameters: Any) -> ProjectExamined | Failed:
        question = ExamineProject(
            project_dir=str(project), train_type=kind, parameters=parameters, findings=str(_findings(project))
        )
        return self.ask(question)

    def start_training(self, project: Path, kind: str = "classification", task: str = "t1", **parameters: Any) -> int:
        """Sends the question and returns its id; to be answered after `examine`."""
        return self.send(
            Train(
                job=1,
                task_id=task,
                project_dir=str(project),
                train_type=kind,
                parameters=parameters,
                findings=str(_findings(project)),
                folder=str(project / "models" / task),
                work_folder=str(project.parent / "work"),
            )
        )

    def train(self, project: Path, kind: str = "classification", **parameters: Any) -> TrainingEnded:
        examined = self.examine(project, kind, **parameters)
        assert isinstance(examined, ProjectExamined), examined
        assert not examined.problems
        return self.wait(self.start_training(project, kind, **parameters), TrainingEnded)

    def wait_until_told(self, condition: Callable[[Progress], bool]) -> Progress:
        """The first Progress for which the condition is true."""
        seen = 0

        def found() -> Progress | None:
            nonlocal seen
            fresh, seen = self.told[seen:], len(self.told)
            return next((each for each in fresh if condition(each)), None)

        answer: Progress = self._receive_until(found)
        return answer

    def epochs_told(self) -> list[int]:
        """The epochs whose end was told, in order."""
        return [each.metrics["epoch"] for each in self.told if each.metrics is not None]


class _Answers(dict[int, Any]):
    """Messages by request id; Progress, which all come with 0, in a list."""

    def __init__(self, told: list[Progress]) -> None:
        super().__init__()
        self._told = told

    def __setitem__(self, request_id: int, message: Any) -> None:
        if isinstance(message, Progress):
            self._told.append(message)
        else:
            super().__setitem__(request_id, message)


StartTrainer = Callable[..., Trainer]
"""Takes the options of a worker and starts one."""


def error_of(ended: TrainingEnded) -> dict[str, Any]:
    assert ended.error is not None
    told: dict[str, Any] = json.loads(ended.error)
    return told


def _findings(project: Path) -> Path:
    return project.parent / "findings.json"
