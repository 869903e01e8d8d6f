"""When a callback is sent again, its signature, and the callbacks of trainings."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from pathlib import Path

from queues import until
from task_trainer import open_trainer

from tfserve.supervisor.jobs.callbacks import JobCallbacks, delay_s, signature


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
