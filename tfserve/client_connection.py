"""The HTTP connection of `tfserve.client`: requests, responses, refusals and the stream of a job's output."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import httpx
import msgspec

PATIENCE_S = 30.0
"""Seconds that a response may take beyond the time that the server was asked to wait."""

EVENT_STREAM = "text/event-stream"

T = TypeVar("T")


class Failure(msgspec.Struct, frozen=True):
    """Why a request was refused or a job failed. A script's error has `type` and `traceback` too."""

    code: str = "unknown"
    message: str = ""
    type: str | None = None
    traceback: str | None = None
    detail: dict[str, Any] | None = None


class ServerRefused(Exception):
    """The server answered that it could not do the request (`request_result` was false)."""

    def __init__(self, status: int, code: str, message: str, detail: dict[str, Any] | None = None) -> None:
        super().__init__(f"{message} ({status} {code})")
        self.status = status
        self.code = code
        self.message = message
        self.detail = detail or {}


class ServerUnreachable(ConnectionError):
    """No answer came: nobody listens there, the connection broke, or the answer took too long."""


class JobAnswer(msgspec.Struct, frozen=True):
    """What a call that submits a job tells: how the job ended, or that it goes on.

    `result` is true or false, for a prediction a list or null, and null while the job goes on. `time` is in seconds.
    """

    job: int
    id: int
    finish: bool
    result: Any = None
    time: float = 0.0
    variable: dict[str, Any] = {}
    error: Failure | None = None
    stdout: str = ""
    stderr: str = ""


class Output(msgspec.Struct, frozen=True):
    """A piece of a job's output, the offset where the next piece begins, and the state that the job had then."""

    data: bytes
    next_offset: int
    state: str


class _Answer(msgspec.Struct):
    request_result: bool
    result: Any = None
    error: Failure | None = None


class OutputEvent(msgspec.Struct):
    offset: int
    text: str


class Connection:
    """Connections to one server. May be shared by threads."""

    def __init__(self, base_url: str) -> None:
        # Proxies set for the world outside would swallow calls to 127.0.0.1, so the environment is not asked.
        self._http = httpx.Client(
            base_url=base_url,
            trust_env=False,
            timeout=PATIENCE_S,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=None),
        )

    def close(self) -> None:
        self._http.close()

    def post(
        self,
        path: str,
        type_: type[T],
        fields: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        wait_s: float = 0.0,
    ) -> T:
        """The result of a request, which the server may take `wait_s` seconds to answer."""
        content = b"{}" if fields is None else msgspec.json.encode(fields)
        return read(
            self.send(
                "POST",
                path,
                content=content,
                headers={"Content-Type": "application/json", **(headers or {})},
                timeout=httpx.Timeout(PATIENCE_S, read=PATIENCE_S + wait_s),
            ),
            type_,
        )

    def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """The response, whatever its status. Raises `ServerUnreachable`."""
        try:
            return self._http.request(method, path, **options)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    def output_events(self, id: int, offset: int, deadline: float | None) -> Generator[OutputEvent]:  # noqa: A002
        """The output from one connection. Returns when the job has ended; a connection that ends earlier is broken."""
        try:
            with self._http.stream(
                "GET",
                f"/jobs/{id}/output",
                params={"offset": offset},
                headers={"Accept": EVENT_STREAM},
                timeout=httpx.Timeout(PATIENCE_S, read=_remaining(deadline)),
            ) as response:
                if response.status_code != httpx.codes.OK:
                    response.read()
                    raise refusal(response)
                for kind, data in _events(response.iter_bytes()):
                    if kind == "end":
                        return
                    if kind == "output":
                        yield msgspec.json.decode(data, type=OutputEvent)
                    _remaining(deadline)
        except httpx.TransportError as error:
            _remaining(deadline)
            raise self._unreachable(error) from error
        raise ServerUnreachable(f"{self._http.base_url} closed the output of job {id} before its end.")

    def _unreachable(self, error: httpx.TransportError) -> ServerUnreachable:
        return ServerUnreachable(f"No answer from {self._http.base_url}: {error or type(error).__name__}")


def read(response: httpx.Response, type_: type[T]) -> T:
    """The result in a response. Raises `ServerRefused` if there is none."""
    try:
        answer = msgspec.json.decode(response.content, type=_Answer)
    except msgspec.MsgspecError:
        raise refusal(response) from None
    if not answer.request_result:
        raise refusal(response)
    return msgspec.convert(answer.result, type_)


def _remaining(deadline: float | None) -> float | None:
    """Seconds until the deadline. Raises `TimeoutError` when it is past."""
    if deadline is None:
        return None
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise TimeoutError("the job has not ended in the time that it was given")
    return remaining


def refusal(response: httpx.Response) -> ServerRefused:
    """What the server said. If something else answered, a proxy for example, then its text is the message."""
    status = response.status_code
    try:
        answer = msgspec.json.decode(response.content, type=_Answer)
    except msgspec.MsgspecError:
        return ServerRefused(status, "unknown", response.text[:500] or response.reason_phrase)
    error = answer.error or Failure(message=str(answer.result))
    return ServerRefused(status, error.code, error.message, error.detail)


def _events(chunks: Iterable[bytes]) -> Iterator[tuple[str, bytes]]:
    """Server-sent events as (event, data). Lines end with a line feed only: the data is JSON, in which the other
    characters that end a line for `str.splitlines` may stand as they are."""
    event, data = "message", b""
    for line in _lines(chunks):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"event":
            event = value.decode()
        elif field == b"data":
            data += value
        elif not line:
            if data:
                yield event, data
            event, data = "message", b""


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.removesuffix(b"\r")
