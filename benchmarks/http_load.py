"""A closed-loop HTTP client: so many connections, each with one request in flight. Cheap, since it shares the cores."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import uvloop


@dataclass
class Result:
    """What the clients saw. Times are seconds."""

    times: list[float] = field(default_factory=list)
    answers: list[Any] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    took_s: float = 0.0

    @property
    def rate(self) -> float:
        return len(self.times) / self.took_s

    @property
    def p50_ms(self) -> float:
        return statistics.median(self.times) * 1000

    @property
    def p99_ms(self) -> float:
        return statistics.quantiles(self.times, n=100)[98] * 1000


class _Connection(asyncio.Protocol):
    def __init__(self, host: str, requests: Iterator[tuple[str, bytes]], result: Result, check: Callable[[Any], bool]):
        self.done = asyncio.get_running_loop().create_future()
        self._host = host
        self._requests = requests
        self._result = result
        self._check = check
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._next()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(body) < length:
            return
        self._result.times.append(time.perf_counter() - self._sent_at)
        self._buffer = b""
        answer = json.loads(body)
        self._result.answers.append(answer)
        if not head.startswith(b"HTTP/1.1 200") or not self._check(answer):
            self._result.failures.append(body[:300].decode())
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self._result.failures.append(f"connection lost: {exc}")
            self.done.set_result(None)

    def _next(self) -> None:
        try:
            path, body = next(self._requests)
        except StopIteration:
            self.done.set_result(None)
            self._transport.close()
            return
        head = f"POST {path} HTTP/1.1\r\nHost: {self._host}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        self._sent_at = time.perf_counter()
        self._transport.write(head + body)  # type: ignore[attr-defined]


def load(
    url: str,
    requests: Iterator[tuple[str, bytes]],
    *,
    connections: int,
    check: Callable[[Any], bool] = lambda _: True,
) -> Result:
    """Sends all the requests (path and body) over so many connections."""

    async def run() -> Result:
        address, result = urlsplit(url), Result()
        loop = asyncio.get_running_loop()
        clients = []
        started_at = time.perf_counter()
        for _ in range(connections):
            _, client = await loop.create_connection(
                lambda: _Connection(address.netloc, requests, result, check), address.hostname, address.port
            )
            clients.append(client)
        await asyncio.gather(*(client.done for client in clients))
        result.took_s = time.perf_counter() - started_at
        return result

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())
