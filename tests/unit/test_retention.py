"""Old jobs are forgotten by the server's running time; no jump of the wall clock deletes history."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

DAY_S = 24 * 3600.0


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The module, with Django set up on a database of its own. The environment stays as it was."""
    import django
    from django.core.management import call_command

    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TFSERVE_DATA_DIR", str(tmp_path_factory.mktemp("data")))
        environment.setenv("DJANGO_SETTINGS_MODULE", "tfserve.django_settings")
        django.setup()
        call_command("migrate", verbosity=0, interactive=False)
        from tfserve.db import writes as records
        from tfserve.db.models import ServerState

        ServerState.objects.update_or_create(pk=1, defaults={"owner": "test"})
        yield records
    from django.db import connections

    connections.close_all()


def finish_job(records: Any, workspace_id: int, name: str) -> None:
    from tfserve.ipc.messages import ClearJob, JobKind, JobState, Outcome, SubmitJob

    job = SubmitJob(workspace=name, request=ClearJob().encode())
    (recorded,) = records.submit([records.Submission(workspace_id, job)])
    ended = records.Ended(recorded.id, JobKind.CLEAR, Outcome(state=JobState.SUCCEEDED))
    records.record_steps([records.QueueStep(workspace_id=workspace_id, ended=[ended])])


def test_jobs_are_kept_for_days_of_running_time_whatever_the_wall_clock_says(
    records: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.utils import timezone

    from tfserve.db import running_time

    workspace = records.create_workspace("retention", 0)
    real_now = timezone.now
    for days in (0, -4000, +400):  # a clock that jumped back, then ahead
        monkeypatch.setattr(timezone, "now", lambda days=days: real_now() + timedelta(days=days))
        finish_job(records, workspace.pk, "retention")
        assert records.prune(workspace.pk, keep_jobs=100, keep_days=30) == []

    running_time.save()
    running_time.start()  # as the next server does
    assert records.prune(workspace.pk, keep_jobs=100, keep_days=30) == []
    monkeypatch.setattr(running_time, "_before_s", running_time.now_s() + 31 * DAY_S)
    finish_job(records, workspace.pk, "retention")
    assert records.prune(workspace.pk, keep_jobs=100, keep_days=30) == [0, 1, 2]
    assert records.prune(workspace.pk, keep_jobs=0, keep_days=30) == [3]


def test_the_running_time_continues_after_a_restart_and_is_given_to_jobs_of_earlier_versions(records: Any) -> None:
    from tfserve.db import running_time
    from tfserve.db.models import Job, ServerState

    workspace = records.create_workspace("restart", 0)
    finish_job(records, workspace.pk, "restart")
    Job.objects.filter(workspace=workspace).update(finished_running_s=None)
    ServerState.objects.update(running_s=5 * DAY_S)
    running_time.start()
    assert 5 * DAY_S <= running_time.now_s() < 5 * DAY_S + 60
    assert Job.objects.get(workspace=workspace).finished_running_s == 5 * DAY_S
