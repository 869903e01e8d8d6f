"""A server opens the database of an earlier release, shows its jobs and continues with those that were waiting.

`tests/data/release-0.1.0.sql` was written by version 0.1.0, which was killed while job 7 of the workspace `shop` ran
and seven jobs waited behind it. `{folder}` stands for the folder with the script and the model.
"""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from supervised import DEADLINE_S, Start, Supervised, written

from tfserve.db import reads
from tfserve.db.job_json import job_detail
from tfserve.db.models import Job
from tfserve.errors import Conflict
from tfserve.ipc.messages import JobState, ScriptJob
from tfserve.web.database_reads import read

RELEASE = Path(__file__).parents[2] / "data" / "release-0.1.0.sql"
FIRST_SCRIPT = "x = 41\nprint('hello')"


@pytest.fixture
def database(database: Path, tmp_path: Path) -> Path:
    """The stored database, with what its jobs refer to."""
    written(tmp_path / "model.echo")
    (tmp_path / "script.py").write_text("z = 3\nprint('from a file')\n")
    database.unlink()
    connection = sqlite3.connect(database)
    connection.executescript(RELEASE.read_text().replace("{folder}", str(tmp_path)))
    connection.close()
    return database


async def finished_jobs(server: Supervised) -> list[Job]:
    """All jobs of the workspace, by number, once the last one has finished."""
    for job in list(server.workspaces.jobs.values()):
        await job.wait(DEADLINE_S)
    return await read(lambda: list(Job.objects.filter(workspace__name="shop").select_related("outcome", "workspace")))


async def test_jobs_that_waited_in_an_earlier_release_run_in_order(start: Start) -> None:
    async with start() as server:
        jobs = await finished_jobs(server)
        assert [(job.kind, job.state) for job in jobs[7:]] == [
            ("script", "lost"),
            ("script", "succeeded"),
            ("script", "succeeded"),
            ("deploy", "succeeded"),
            ("predict", "succeeded"),
            ("update", "succeeded"),
            ("undeploy", "succeeded"),
            ("clear", "succeeded"),
        ]
        details = [json.loads(job.outcome.detail or "{}") for job in jobs]
        assert [details[8]["stdout"], details[9]["stdout"]] == ["second\n", "from a file\n"]
        assert (details[10]["version"], details[10]["warm_up"]) == (2, "the given example")
        assert json.loads(jobs[11].outcome.result) == [[[1.5, 2.0]]]
        assert details[12]["warm_up"] == "none, as set in the deployment"
        assert (await server.run("x = 1", "shop")).job == 15


async def test_finished_jobs_of_an_earlier_release_are_listed_as_they_were(start: Start, tmp_path: Path) -> None:
    async with start() as server:
        await finished_jobs(server)
        rows, total = await read(reads.jobs, name="shop", state=None, kind=None, limit=100, offset=0)
        assert [row.number for row in rows] == list(range(14, -1, -1))
        assert total == 15
        script, deployed = [job_detail(await read(reads.job_by_id, job_id)) for job_id in (1, 4)]
        assert json.loads(bytes(script["request"])) == {"clear": False, "text": FIRST_SCRIPT}
        assert json.loads(bytes(script["detail"])) == {"stdout": "hello\n", "stderr": ""}
        assert json.loads(bytes(deployed["request"]))["path"] == str(tmp_path / "model.echo")
        assert json.loads(bytes(deployed["detail"]))["version"] == 1


async def test_idempotency_keys_of_an_earlier_release_are_known(start: Start) -> None:
    async with start() as server:
        script = ScriptJob(clear=False, text=FIRST_SCRIPT)
        known = await server.submit(script, "shop", idempotency_key="first")
        assert (known.id, known.state) == (1, JobState.SUCCEEDED)
        with pytest.raises(Conflict, match="different request"):
            await server.submit(ScriptJob(clear=True, text=FIRST_SCRIPT), "shop", idempotency_key="first")
