"""A closed-loop HTTP client: so many connections, each with one request in flight. Cheap, since it shares the cores."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol
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


class Exchange(Protocol):
    """A request, and what is expected of its own answer."""

    path: str
    body: bytes
    headers: dict[str, str]

    def read(self, status: int, headers: dict[str, str], body: bytes, /) -> Any:
        """What is kept of the answer; raises ValueError, with what was wrong, for a failure."""
        ...


@dataclass
class JsonExchange:
    path: str
    body: bytes
    check: Callable[[Any], bool]
    headers: dict[str, str] = field(default_factory=dict)

    def read(self, status: int, _headers: dict[str, str], body: bytes) -> Any:
        answer = json.loads(body)
        if status != 200 or not self.check(answer):
            raise ValueError(body[:300].decode())
        return answer


class _Connection(asyncio.Protocol):
    def __init__(self, host: str, exchanges: Iterator[Exchange], result: Result):
        self.done = asyncio.get_running_loop().create_future()
        self._host = host
        self._exchanges = exchanges
        self._result = result
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._next()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        status, headers = _head(head)
        if len(body) < int(headers["content-length"]):
            return
        self._result.times.append(time.perf_counter() - self._sent_at)
        self._buffer = b""
        try:
            self._result.answers.append(self._exchange.read(status, headers, body))
        except ValueError as error:
            self._result.failures.append(f"{status}: {error}")
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self._result.failures.append(f"connection lost: {exc}")
            self.done.set_result(None)

    def _next(self) -> None:
        try:
            self._exchange = exchange = next(self._exchanges)
        except StopIteration:
            self.done.set_result(None)
            self._transport.close()
            return
        headers = {"Host": self._host, "Content-Length": str(len(exchange.body)), **exchange.headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._sent_at = time.perf_counter()
        self._transport.write(  # type: ignore[attr-defined]
            f"POST {exchange.path} HTTP/1.1\r\n{lines}\r\n".encode() + exchange.body
        )


def _head(head: bytes) -> tuple[int, dict[str, str]]:
    """The status, and the headers with their names in lower case."""
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return int(first.split()[1]), {name.lower(): value.strip() for name, _, value in pairs}


def load(
    url: str,
    requests: Iterator[tuple[str, bytes]],
    *,
    connections: int,
    check: Callable[[Any], bool] = lambda _: True,
) -> Result:
    """Sends all the requests (path and body), answered with JSON, over so many connections."""
    return exchange(url, (JsonExchange(path, body, check) for path, body in requests), connections=connections)


def exchange(url: str, exchanges: Iterator[Exchange], *, connections: int) -> Result:
    """Sends all the requests over so many connections; each answer is read by its own exchange."""

    async def run() -> Result:
        address, result = urlsplit(url), Result()
        loop = asyncio.get_running_loop()
        clients = []
        started_at = time.perf_counter()
        for _ in range(connections):
            _, client = await loop.create_connection(
                lambda: _Connection(address.netloc, exchanges, result), address.hostname, address.port
            )
            clients.append(client)
        await asyncio.gather(*(client.done for client in clients))
        result.took_s = time.perf_counter() - started_at
        return result

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())
