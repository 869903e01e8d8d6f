"""Fills the data folder of a server that is not running with 500 workspaces and 10,000 jobs.

Run `TFSERVE_DATA_DIR=FOLDER python -m benchmarks.filled_database`. The jobs have ended, so a server on this folder has
nothing to do, and its pages have much to show.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import django

WORKSPACES, JOBS = 500, 10_000
LARGE_SHARE = 2
"""One of this number of jobs is in the first workspace; the others are spread over all."""
SCRIPT = (
    """import numpy as np

# step {number}
loss = train(model, images[{number}:], labels)
"""
    + "print('epoch', loss)\n" * 40
)
ERROR = {"code": "failed", "message": "operands could not be broadcast together with shapes (150,4) (3,)",
         "type": "ValueError", "traceback": "Traceback:\n" + "  File 'job', line 3\n" * 20}  # fmt: skip
FAILED_SHARE = 20


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tfserve.django_settings")
    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    first = fill()
    folder = Path(os.environ["TFSERVE_DATA_DIR"]) / "workspaces" / str(first) / "files"
    folder.mkdir(parents=True)
    for number in range(300):
        (folder / f"measurements {number:03}.csv").write_text("a,b\n1,2\n")


def fill() -> int:
    """Writes all rows, and returns the id of the first workspace. Needs a database with the present tables."""
    from tfserve.db.models import Job, Outcome, Snapshot, Workspace

    count_in_first = JOBS // LARGE_SHARE
    each = (JOBS - count_in_first) // WORKSPACES
    numbers = {f"workspace {index:03}": each + (count_in_first if index == 0 else 0) for index in range(WORKSPACES)}
    spaces = Workspace.objects.bulk_create(Workspace(name=name, next_number=count) for name, count in numbers.items())
    jobs = Job.objects.bulk_create(_jobs(spaces), batch_size=1000)
    values = {f"variable {number:03}": list(range(number)) for number in range(300)}
    Snapshot.objects.create(workspace=spaces[0], variables=json.dumps(values))
    Outcome.objects.bulk_create((_outcome(job) for job in jobs), batch_size=1000)
    return int(spaces[0].pk)


def _outcome(job: Any) -> Any:
    from tfserve.db.models import Outcome

    is_failed = job.state == "failed"
    error = json.dumps(ERROR) if is_failed else None
    return Outcome(job=job, result=json.dumps(not is_failed), detail=json.dumps({"stdout": "x" * 500}), error=error)


def _jobs(spaces: list[Any]) -> Iterator[Any]:
    """The jobs of all workspaces in the order in which they were submitted, one a minute."""
    from django.utils import timezone

    from tfserve.db.models import Job

    order = sorted((number, space.pk, space) for space in spaces for number in range(space.next_number))
    now = timezone.now()
    for index, (number, _, space) in enumerate(order):
        begun = now - timedelta(minutes=len(order) - index)
        kind = "predict" if index % 4 == 0 else "script"
        request = None if kind == "predict" else json.dumps({"clear": False, "text": SCRIPT.format(number=number)})
        yield Job(
            workspace=space, number=number, kind=kind, state="failed" if index % FAILED_SHARE == 0 else "succeeded",
            request=request, created_at=begun, started_at=begun, finished_at=begun + timedelta(seconds=12),
            finished_running_s=0.0, attempts=1,
        )  # fmt: skip


if __name__ == "__main__":
    main()
