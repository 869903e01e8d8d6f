"""How training tasks are recorded, on a real database."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The module, with Django set up on a database of its own. The environment stays as it was."""
    import django
    from django.core.management import call_command

    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TFSERVE_DATA_DIR", str(tmp_path_factory.mktemp("data")))
        environment.setenv("DJANGO_SETTINGS_MODULE", "tfserve.django_settings")
        django.setup()
        call_command("migrate", verbosity=0, interactive=False)
        from tfserve.db import training_tasks as training

        yield training
    from django.db import connections

    connections.close_all()


@pytest.fixture
def task(training: Any, request: pytest.FixtureRequest) -> str:
    """The id of a new task."""
    from tfserve.db.models import TrainingTask

    row = TrainingTask(task_id=str(abs(hash(request.node.name)))[:32], train_type="classification", project_dir="/p")
    return str(training.create(row).task_id)


def test_only_deaths_in_a_row_without_a_further_checkpoint_are_counted(training: Any, task: str) -> None:
    assert [training.died(task, epoch) for epoch in (3, 6, 8)] == [0, 0, 0]
    assert [training.died(task, epoch) for epoch in (8, 7, 8)] == [1, 2, 3]
    assert [training.died(task, epoch) for epoch in (9, 9)] == [0, 1]


def test_deaths_before_the_first_checkpoint_are_counted(training: Any, task: str) -> None:
    assert [training.died(task, 0) for _ in range(3)] == [1, 2, 3]


def test_the_next_start_reports_the_states_that_were_not_delivered(training: Any, task: str) -> None:
    from tfserve.db.models import Job, TrainingTask
    from tfserve.ipc.messages import JobState

    def to_tell() -> list[str]:
        return [each.task_id for each in training.unreported()]

    assert to_tell() == [], "tasks that were made without a callback are nobody's business"
    TrainingTask.objects.filter(task_id=task).update(reported_state="")
    assert to_tell() == [task]
    training.set_reported(task, "pending")
    assert to_tell() == []
    Job.objects.filter(task__task_id=task).update(state=JobState.LOST)
    assert to_tell() == [task]
    training.set_reported(task, "done with error")
    assert to_tell() == []
