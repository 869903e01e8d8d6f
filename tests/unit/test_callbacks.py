"""The operator's server is told of states; it may be slow, or gone."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tfserve.supervisor.jobs.training_callbacks import Callbacks


class SlowServer(ThreadingHTTPServer):
    """Answers when `answer` is set, and not before."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), SlowHandler)
        self.received: list[Any] = []
        self.came = threading.Event()
        self.answer = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook"


class SlowHandler(BaseHTTPRequestHandler):
    server: SlowServer

    def do_POST(self) -> None:
        self.server.received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.server.came.set()
        self.server.answer.wait(20)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def slow() -> Iterator[SlowServer]:
    server = SlowServer()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.answer.set()
    server.shutdown()
    thread.join()
    server.server_close()


Delivered = asyncio.Queue[tuple[str, str]]


def run(url: str, test: Callable[[Callbacks, Delivered], Awaitable[None]]) -> None:
    """Calls the test with callbacks to this address, and with what they have delivered."""
    delivered = Delivered()

    async def note(task: str, state: str) -> None:
        delivered.put_nowait((task, state))

    async def work() -> None:
        callbacks = Callbacks(url, note)
        try:
            await test(callbacks, delivered)
        finally:
            await callbacks.close()

    asyncio.run(work())


def task(state: str, task_id: str = "t1") -> dict[str, Any]:
    return {"taskId": task_id, "state": state}


def test_a_slow_server_keeps_nobody_waiting_and_hears_everything_in_order(slow: SlowServer) -> None:
    async def tell(callbacks: Callbacks, delivered: Delivered) -> None:
        began = time.monotonic()
        for state in ("pending", "processing", "processing", "done"):
            callbacks.report(task(state), "")
        callbacks.report(task("pending", "t2"), "pending")
        assert time.monotonic() - began < 0.1
        assert await asyncio.to_thread(slow.came.wait, 10)
        assert delivered.empty()
        slow.answer.set()
        told = [await asyncio.wait_for(delivered.get(), 10) for _ in range(3)]
        assert told == [("t1", "pending"), ("t1", "processing"), ("t1", "done")]

    run(slow.url, tell)
    assert slow.received == [task("pending"), task("processing"), task("done")], "no state is told twice"


def test_the_end_does_not_wait_for_it_and_what_it_has_not_confirmed_is_not_delivered(slow: SlowServer) -> None:
    async def tell(callbacks: Callbacks, delivered: Delivered) -> None:
        callbacks.report(task("done"), "processing")
        assert await asyncio.to_thread(slow.came.wait, 10)
        began = time.monotonic()
        await callbacks.close()
        assert time.monotonic() - began < 1
        assert delivered.empty()

    run(slow.url, tell)


def test_without_an_address_nothing_is_kept() -> None:
    async def tell(callbacks: Callbacks, delivered: Delivered) -> None:
        callbacks.report(task("done"), None)
        assert delivered.empty()

    run("", tell)
