"""When a callback is sent again, its signature, and the callbacks of trainings."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from queues import open_journal, read, until
from task_trainer import open_trainer

from tfserve.config import Settings
from tfserve.db import callbacks as callback_rows
from tfserve.db import writes
from tfserve.db.models import Callback
from tfserve.db.models import Job as JobRow
from tfserve.ipc.messages import EncodedRequest, JobKind, JobState, Outcome, SubmitJob
from tfserve.supervisor.jobs.callbacks import JobCallbacks, delay_s, signature
from tfserve.supervisor.jobs.journal import Journal


def test_delays_grow_to_an_hour_and_jitter_spreads_them() -> None:
    assert [delay_s(attempts, 0.5) for attempts in (0, 1, 2, 5)] == [1.0, 2.0, 4.0, 32.0]
    assert delay_s(100, 0.5) == 3600.0
    assert (delay_s(2, 0.0), delay_s(2, 1.0)) == (3.0, 5.0)


def test_the_signature_covers_time_and_body() -> None:
    time, mac = (part.partition("=")[2] for part in signature("key", b'{"id":1}', 1700000000).split(","))
    assert mac == hmac.new(b"key", f"{time}.".encode() + b'{"id":1}', hashlib.sha256).hexdigest()


async def test_every_run_of_a_training_is_sent_when_it_ends(database: Path, tmp_path: Path) -> None:
    received: list[tuple[str, dict[str, object]]] = []

    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next(line for line in head.lower().splitlines() if line.startswith("content-length"))
        received.append((head, json.loads(await reader.readexactly(int(length.partition(":")[2])))))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    receiver = await asyncio.start_server(receive, "127.0.0.1", 0)
    url = f"http://localhost:{receiver.sockets[0].getsockname()[1]}/done?x=1"
    async with receiver, open_trainer(database) as trainer:
        callbacks = JobCallbacks(trainer.settings, trainer.journal, is_open=lambda: True)
        await callbacks.begin()
        task_id = await trainer.start(tmp_path / "p", "raise SystemExit(3)", callback=url)
        await trainer.ended(task_id)
        await until(lambda: len(received) == 1)
        await trainer.trainings.resume(task_id)
        await trainer.ended(task_id)
        await until(lambda: len(received) == 2)
        await callbacks.close()
    (head, first), (_, second) = received
    assert head.startswith("POST /done?x=1 HTTP/1.1\r\n")
    assert f"host: {url.split('/')[2]}" in head.lower()
    assert first["kind"] == second["kind"] == "train"
    assert first["state"] == second["state"]
    assert first["id"] != second["id"]


async def end_job(journal: Journal, url: str) -> int:
    """A job that has ended, with a callback to this URL."""
    workspace = (await journal.change(lambda: writes.create_workspace("w", 0))).pk
    job = SubmitJob(workspace="w", request=EncodedRequest(JobKind.SCRIPT, b"{}"), callback=url)
    recorded = await journal.submit(writes.Submission(workspace, job, started=True))
    ended = writes.Ended(recorded.id, JobKind.SCRIPT, Outcome(state=JobState.SUCCEEDED))
    await journal.record_step(writes.QueueStep(workspace_id=workspace, ended=[ended]))
    return recorded.id


@asynccontextmanager
async def open_callbacks(database: Path, journal: Journal) -> AsyncIterator[JobCallbacks]:
    callbacks = JobCallbacks(Settings(data_dir=str(database.parent)), journal, is_open=lambda: True)
    await callbacks.begin()
    try:
        yield callbacks
    finally:
        await callbacks.close()


async def receiver(respond: Callable[[], Awaitable[object]]) -> tuple[asyncio.Server, str]:
    """Responds with 200 after `respond`."""

    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await respond()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(receive, "127.0.0.1", 0)
    return server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


async def test_a_callback_whose_job_is_deleted_while_it_is_sent_ends(
    database: Path, caplog: pytest.LogCaptureFixture
) -> None:
    deleted: list[object] = []

    async def delete() -> None:
        deleted.append(await journal.change(lambda: JobRow.objects.all().delete()))

    server, url = await receiver(delete)
    async with open_journal() as journal, server, open_callbacks(database, journal) as callbacks:
        callbacks.job_ended(await end_job(journal, url))
        await until(lambda: deleted and not callbacks._tasks._tasks)
    assert caplog.text == ""


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".com"])
async def test_a_recorded_callback_with_an_impossible_host_fails_at_once(database: Path, host: str) -> None:
    async with open_journal() as journal, open_callbacks(database, journal) as callbacks:
        job_id = await end_job(journal, f"http://{host}/")
        callbacks.job_ended(job_id)
        await until(lambda: not callbacks._tasks._tasks)
        row = await read(lambda: Callback.objects.get(pk=job_id))
        assert (row.state, row.attempts) == ("failed", 1)
        assert host in row.last_error


async def test_a_fault_of_the_server_is_logged_and_the_callback_has_failed(
    database: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_journal() as journal, open_callbacks(database, journal) as callbacks:
        job_id = await end_job(journal, "http://127.0.0.1:1/")
        monkeypatch.setattr(callback_rows, "MAX_RESULT", None)  # a fault: it can't be compared
        await read(lambda: JobRow.objects.get(pk=job_id).outcome.__class__.objects.update(result="1"))
        callbacks.job_ended(job_id)
        await until(lambda: not callbacks._tasks._tasks)
        row = await read(lambda: Callback.objects.get(pk=job_id))
        assert (row.state, row.attempts) == ("failed", 1)
        assert "See the server's log" in row.last_error
    assert f"the callback of job {job_id} is given up" in caplog.text
