"""The two ways to run flows: in the calling thread with httpx.Client, or in an event loop with httpx.AsyncClient."""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import httpx

from tfserve_client.connection_errors import translated
from tfserve_client.errors import Invalid
from tfserve_client.flows import Chunk, Emit, Flow, Pause, Request, Runs, RunsAsync, Stream, Work
from tfserve_client.jobs import AsyncJob, Job, job_fields
from tfserve_client.retries import Retries

T = TypeVar("T")

DEFAULT_URL = "http://127.0.0.1:8000"
URL, TOKEN = "TFSERVE_URL", "TFSERVE_TOKEN"
MAX_PORT = 65_535
FILE_BYTES = 1 << 20
"""Size of the pieces in which a file is sent."""


class Settings:
    """What both clients are made with."""

    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        timeout: float = 30.0,
        retries: int | Retries = Retries(),  # noqa: B008 (frozen)
        verify: bool = True,
        ca_file: str | Path | None = None,
        certificate: tuple[str | Path, str | Path] | None = None,
    ) -> None:
        self.url = _checked((url or os.environ.get(URL) or DEFAULT_URL).rstrip("/"))
        self.timeout = timeout
        self._retries = Retries(retries, retries) if isinstance(retries, int) else retries
        token = _checked_token(token if token is not None else os.environ.get(TOKEN) or "")
        self._options: dict[str, Any] = {
            "base_url": self.url,
            "headers": {"Authorization": f"Bearer {token}"} if token else {},
            # Loading the CAs of the system takes a tenth of a second, and http does not need them.
            "verify": _tls(verify, ca_file, certificate) if self.url.startswith("https:") else False,
            "timeout": timeout,
            "trust_env": False,  # a proxy of the environment would swallow requests to 127.0.0.1
            "limits": httpx.Limits(max_connections=None, max_keepalive_connections=None),
        }

    def _arguments(self, request: Request) -> dict[str, Any]:
        """The arguments of httpx for a request, except its content."""
        read_s = None if request.wait_s is None else self.timeout + request.wait_s
        read_s = read_s if request.limit_s is None else request.limit_s
        return {
            "method": request.method,
            "url": request.path,
            "params": dict(request.params) or None,
            "headers": dict(request.headers),
            "files": list(request.files) or None,
            "timeout": httpx.Timeout(self.timeout, read=read_s),
        }


def _checked(url: str) -> str:
    """The address. Raises `Invalid`."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise Invalid(f"{url!r} is not an address ({error}). Expected one such as {DEFAULT_URL}.") from None
    if parsed.scheme not in ("http", "https") or not parsed.host or (parsed.port or 1) > MAX_PORT:
        raise Invalid(f"{url!r} is not an address of a server. Expected one such as {DEFAULT_URL}.")
    return url


def _checked_token(token: str) -> str:
    """The token without white space around it, as files end with a new line. Raises `Invalid`."""
    stripped = token.strip()
    if any(not "!" <= each <= "~" for each in stripped):
        raise Invalid("The token has a character that no token has, such as a space. Copy it again.")
    return stripped


def _tls(
    verify: bool, ca_file: str | Path | None, certificate: tuple[str | Path, str | Path] | None
) -> ssl.SSLContext | bool:
    """What a client verifies and presents. Raises `OSError` if a file can't be read, `Invalid` if it can't be used."""
    if ca_file is None and certificate is None:
        return verify
    for file in (ca_file, *(certificate or ())):
        if file is not None:
            Path(file).read_bytes()  # the error of the SSL library does not name the file
    context = ssl.create_default_context()
    try:
        if ca_file is not None:
            context.load_verify_locations(ca_file)
        if certificate is not None:
            context.load_cert_chain(*certificate)
    except ssl.SSLError as error:
        files = ", ".join(str(file) for file in (ca_file, *(certificate or ())) if file is not None)
        expected = "Expected PEM files: CA certificates, or a certificate and the private key that belongs to it."
        raise Invalid(f"{files}: {error.reason or error}. {expected}") from None
    if not verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


class SyncTransport(Settings, Runs):
    """Threads may share it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._http = httpx.Client(**self._options)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _job(self, workspace: str, fields: Mapping[str, Any]) -> Job:
        return Job(**job_fields(workspace, fields), _core=self)

    def _run(self, flow: Flow[T]) -> T:
        effects = _SyncEffects(self._http, self)
        try:
            with translated(self.url):
                effect = next(flow)
                while True:
                    effect = effects.resume(flow, effect)
        except StopIteration as end:
            return cast(T, end.value)
        finally:
            effects.close()

    def _iterate(self, stream: Stream[T]) -> Iterator[T]:
        effects = _SyncEffects(self._http, self)
        try:
            with translated(self.url):
                effect = next(stream)
                while True:
                    if isinstance(effect, Emit):
                        yield effect.value
                        effect = next(stream)
                    else:
                        effect = effects.resume(stream, effect)
        except StopIteration:
            return
        finally:
            effects.close()


class _SyncEffects:
    """Runs the effects of one flow, which has at most one streamed response at a time."""

    def __init__(self, http: httpx.Client, settings: Settings) -> None:
        self._http = http
        self._settings = settings
        self._response: httpx.Response | None = None
        self._chunks: Iterator[bytes] = iter(())

    def resume(self, flow: Any, effect: Any) -> Any:
        """Performs an effect, and resumes the flow with its result up to its next effect."""
        try:
            result = self._do(effect)
        except httpx.TransportError as error:
            return flow.throw(error)
        return flow.send(result)

    def close(self) -> None:
        if self._response is not None:
            self._response.close()

    def _do(self, effect: Request | Chunk | Pause | Work) -> Any:
        if isinstance(effect, Request):
            return self._send(effect)
        if isinstance(effect, Chunk):
            return next(self._chunks, b"")
        return time.sleep(effect.seconds) if isinstance(effect, Pause) else effect.function()

    def _send(self, effect: Request) -> httpx.Response:
        content = _pieces(effect.content) if isinstance(effect.content, Path) else effect.content
        request = self._http.build_request(content=content, **self._settings._arguments(effect))
        response = self._http.send(request, stream=effect.streamed)
        if effect.streamed and response.is_error:
            response.read()
        elif effect.streamed:
            self.close()
            self._response, self._chunks = response, response.iter_bytes()
        return response


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(FILE_BYTES):
            yield piece


class AsyncTransport(Settings, RunsAsync):
    """For one event loop."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._http = httpx.AsyncClient(**self._options)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    def _job(self, workspace: str, fields: Mapping[str, Any]) -> AsyncJob:
        return AsyncJob(**job_fields(workspace, fields), _core=self)

    async def _run(self, flow: Flow[T]) -> T:
        effects = _AsyncEffects(self._http, self)
        try:
            with translated(self.url):
                effect = next(flow)
                while True:
                    effect = await effects.resume(flow, effect)
        except _Ended as end:
            return cast(T, end.value)
        except StopIteration as end:
            return cast(T, end.value)
        finally:
            await effects.close()

    async def _iterate(self, stream: Stream[T]) -> AsyncIterator[T]:
        effects = _AsyncEffects(self._http, self)
        try:
            with translated(self.url):
                effect = next(stream, None)
                while effect is not None:
                    if isinstance(effect, Emit):
                        yield effect.value
                        effect = next(stream, None)
                    else:
                        effect = await effects.resume(stream, effect)
        except _Ended:
            return
        finally:
            await effects.close()


class _Ended(Exception):
    """The flow has ended. A coroutine can't raise `StopIteration`."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value


class _AsyncEffects:
    """The same as `_SyncEffects`, in an event loop."""

    def __init__(self, http: httpx.AsyncClient, settings: Settings) -> None:
        self._http = http
        self._settings = settings
        self._response: httpx.Response | None = None
        self._chunks: AsyncIterator[bytes] | None = None

    async def resume(self, flow: Any, effect: Any) -> Any:
        """Raises `_Ended` with the result of the flow."""
        try:
            try:
                result = await self._do(effect)
            except httpx.TransportError as error:
                return flow.throw(error)
            return flow.send(result)
        except StopIteration as end:
            raise _Ended(end.value) from None

    async def close(self) -> None:
        if self._response is not None:
            await self._response.aclose()

    async def _do(self, effect: Request | Chunk | Pause | Work) -> Any:
        if isinstance(effect, Request):
            return await self._send(effect)
        if isinstance(effect, Chunk):
            return b"" if self._chunks is None else await anext(self._chunks, b"")
        if isinstance(effect, Pause):
            return await asyncio.sleep(effect.seconds)
        return await asyncio.to_thread(effect.function)

    async def _send(self, effect: Request) -> httpx.Response:
        content = _async_pieces(effect.content) if isinstance(effect.content, Path) else effect.content
        request = self._http.build_request(content=content, **self._settings._arguments(effect))
        response = await self._http.send(request, stream=effect.streamed)
        if effect.streamed and response.is_error:
            await response.aread()
        elif effect.streamed:
            await self.close()
            self._response, self._chunks = response, response.aiter_bytes()
        return response


async def _async_pieces(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while piece := await asyncio.to_thread(file.read, FILE_BYTES):
            yield piece
