"""The HTTP connection of `tfserve.client`: requests, responses, errors and the output stream of a job."""

from __future__ import annotations

import ssl
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import httpx
import msgspec

PATIENCE_S = 30.0
"""Seconds that a response may take in addition to the requested wait."""

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
    """The server refused the request (`request_result` was false)."""

    def __init__(self, status: int, code: str, message: str, detail: dict[str, Any] | None = None) -> None:
        super().__init__(f"{message} ({status} {code})")
        self.status = status
        self.code = code
        self.message = message
        self.detail = detail or {}


class ServerUnreachable(ConnectionError):
    """No response: nothing listens at the address, the connection broke, or the response timed out."""


class JobAnswer(msgspec.Struct, frozen=True):
    """The response of a method that submits a job: the job's outcome, or that it is still running.

    `result` is true or false (for a prediction: a list or None), and None while the job is running. `time` is in
    seconds.
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
    """A chunk of a job's output, the offset of the next chunk, and the job's state at that moment."""

    data: bytes
    next_offset: int
    state: str


class _Response(msgspec.Struct):
    request_result: bool
    result: Any = None
    error: Failure | None = None


class OutputEvent(msgspec.Struct):
    offset: int
    text: str


class Connection:
    """Connections to one server, safe to share between threads."""

    def __init__(self, base_url: str, tls: ssl.SSLContext | bool = True) -> None:
        # Ignore proxy settings in the environment: a proxy would swallow requests to 127.0.0.1.
        self._http = httpx.Client(
            base_url=base_url,
            verify=tls,
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
        """The result of a request that may block for `wait_s` seconds on the server."""
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
        """The response with any status. Raises `ServerUnreachable`."""
        try:
            return self._http.request(method, path, **options)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    def output_events(self, id: int, offset: int, deadline: float | None) -> Generator[OutputEvent]:  # noqa: A002
        """The output from one connection. Returns when the job has ended, raises if the connection closes earlier."""
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
        raise ServerUnreachable(f"{self._http.base_url} closed the output stream of job {id} before the job ended.")

    def _unreachable(self, error: httpx.TransportError) -> ServerUnreachable:
        return ServerUnreachable(f"No response from {self._http.base_url}: {error or type(error).__name__}")


def tls_context(ca_file: str | Path | None, certificate: tuple[str | Path, str | Path] | None) -> ssl.SSLContext | bool:
    """What a client verifies and presents. True: httpx's defaults. Raises `OSError` if a file can't be used."""
    if ca_file is None and certificate is None:
        return True
    context = ssl.create_default_context()
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    if certificate is not None:
        context.load_cert_chain(*certificate)
    return context


def read(response: httpx.Response, type_: type[T]) -> T:
    """The result in a response. Raises `ServerRefused` if the server reported an error."""
    try:
        content = msgspec.json.decode(response.content, type=_Response)
    except msgspec.MsgspecError:
        raise refusal(response) from None
    if not content.request_result:
        raise refusal(response)
    return msgspec.convert(content.result, type_)


def _remaining(deadline: float | None) -> float | None:
    """Seconds until the deadline. Raises `TimeoutError` when it is past."""
    if deadline is None:
        return None
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise TimeoutError("the job did not end within the timeout")
    return remaining


def refusal(response: httpx.Response) -> ServerRefused:
    """The server's error. If something else responded, such as a proxy, its text is the message."""
    status = response.status_code
    try:
        content = msgspec.json.decode(response.content, type=_Response)
    except msgspec.MsgspecError:
        return ServerRefused(status, "unknown", response.text[:500] or response.reason_phrase)
    error = content.error or Failure(message=str(content.result))
    return ServerRefused(status, error.code, error.message, error.detail)


def _events(chunks: Iterable[bytes]) -> Iterator[tuple[str, bytes]]:
    """Server-sent events as (event, data). Splits at line feeds only, because JSON data may contain the other
    characters at which `str.splitlines` splits."""
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
