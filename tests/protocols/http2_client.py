"""A client that sends HTTP/2 frames one by one, right and wrong ones, and a gRPC server with echo methods for it."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import hpack
import uvloop

from tests.protocols.grpc_port import free_port
from tfserve.access import secrets
from tfserve.access.principals import Scope
from tfserve.config import Settings
from tfserve.errors import Invalid
from tfserve.ipc.messages import AccessRules, TokenDigest, TokenRule
from tfserve.web.access.audit_log import AuditLog
from tfserve.web.access.authenticator import Authenticator
from tfserve.web.access.token_limits import TokenLimits
from tfserve.web.api.protos import oip_pb2 as v2
from tfserve.web.grpc_server import serving
from tfserve.web.http2 import frames
from tfserve.web.rpc import Call, Service, StreamMethod, Unary

WAIT_S = 20
HEADERS = [
    (":method", "POST"), (":scheme", "http"), (":path", "/test.Echo/Unary"), (":authority", "localhost"),
    ("content-type", "application/grpc"), ("te", "trailers"),
]  # fmt: skip
Message = v2.ModelInferRequest


class Echo:
    """Methods that return what they get. A message with the id `wait` is never answered, `bad` is refused."""

    def __init__(self, port: int, authenticator: Authenticator) -> None:
        self.port = port
        self.authenticator = authenticator
        self.clients: list[Client] = []
        self.cancelled = asyncio.Event()
        self.waiting = asyncio.Event()

    async def unary(self, request: Message, _: Call) -> Message:
        if request.id == "wait":
            self.waiting.set()
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                self.cancelled.set()
        if request.id == "bad":
            raise Invalid("100 % wrong: \u00e4\n")
        if request.id == "fault":
            raise RuntimeError
        return request

    async def stream(self, requests: AsyncIterator[Message], call: Call) -> AsyncGenerator[Message, None]:
        async for each in requests:
            yield await self.unary(each, call)

    async def connect(self, settings: Mapping[int, int] | None = None) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        client.send(frames.PREFACE, frames.settings(settings or {}))
        self.clients.append(client)
        return client

    def service(self) -> Service:
        methods = {"Unary": Unary(Message, Message, self.unary), "Stream": StreamMethod(Message, Message, self.stream)}
        special = {
            "Admin": Unary(Message, Message, self.unary, Scope.ADMIN),
            "Health": Unary(Message, Message, self.unary, None),
            "Watch": StreamMethod(Message, Message, self.stream, None),
        }
        return Service("test.Echo", {**methods, **special})


class Frame(NamedTuple):
    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def code(self) -> int:
        """The error code of RST_STREAM and GOAWAY."""
        return int.from_bytes(self.payload[4:8] if self.kind == frames.GOAWAY else self.payload[:4])


class Client:
    """A connection whose preface and settings have been sent."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.encoder = hpack.Encoder()
        self.decoder = hpack.Decoder()

    def send(self, *data: bytes) -> None:
        self.writer.write(b"".join(data))

    def headers(self, stream: int, flags: int = frames.END_HEADERS, **changes: str | None) -> bytes:
        """HEADERS of a call; `changes` are fields by their names with `_` for `-`, None removes one."""
        fields = dict(HEADERS)
        for name, value in changes.items():
            name = name.replace("_", "-")
            name = f":{name}" if f":{name}" in fields else name
            if value is None:
                fields.pop(name)
            else:
                fields[name] = value
        return frames.frame(frames.HEADERS, flags, stream, self.encoder.encode(list(fields.items())))

    async def frame(self) -> Frame | None:
        """The next one; None at the end of the connection."""
        try:
            head = await asyncio.wait_for(self.reader.readexactly(9), WAIT_S)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        upper, lower, kind, flags, stream = struct.unpack(">HBBBI", head)
        payload = await asyncio.wait_for(self.reader.readexactly(upper << 8 | lower), WAIT_S)
        return Frame(kind, flags, stream, payload)

    async def find(self, *kinds: int) -> Frame:
        """The next frame of these kinds."""
        while True:
            found = await self.frame()
            assert found is not None, "the connection ended"
            if found.kind in kinds:
                return found

    async def response(self, stream: int) -> tuple[dict[str, str], bytes, dict[str, str]]:
        """Headers, data and trailers of a call; headers are empty if it ended with its trailers alone."""
        blocks: list[dict[str, str]] = []
        data = b""
        while True:
            found = await self.frame()
            assert found is not None, "the connection ended"
            if found.kind == frames.HEADERS:
                fields = {str(name): str(value) for name, value in self.decoder.decode(found.payload)}
                blocks.append(fields if found.stream == stream else {})
            elif found.kind == frames.DATA and found.stream == stream:
                data += found.payload
            assert found.kind != frames.GOAWAY, found
            assert (found.kind, found.stream) != (frames.RST_STREAM, stream), found
            if (
                found.stream == stream
                and found.flags & frames.END_STREAM
                and found.kind in (frames.HEADERS, frames.DATA)
            ):
                return (blocks[0] if len(blocks) > 1 else {}), data, blocks[-1]

    async def is_closed(self) -> bool:
        """Whether the connection ends, after any frames that are still on the way."""
        while await self.frame() is not None:
            pass
        return True


def data(stream: int, payload: bytes, flags: int = frames.END_STREAM) -> bytes:
    return frames.frame(frames.DATA, flags, stream, payload)


def message(**fields: Any) -> bytes:
    content = Message(**fields).SerializeToString()
    return struct.pack(">BI", 0, len(content)) + content


@asynccontextmanager
async def echo_server(folder: Path, *, token: str | None = None, **settings: Any) -> AsyncIterator[Echo]:
    """In this process, on a port of its own. Fails on errors in callbacks. With a token, calls require it."""
    faults: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    authenticator = Authenticator(lambda _: None, AuditLog(folder / "audit.jsonl"))
    echo = Echo(free_port(), authenticator)
    chosen = Settings(grpc_port=echo.port, **settings)
    digests = [TokenDigest(secrets.digest((token or "").encode()))]
    rules = [TokenRule(1, "t", ["predict"], None, digests)]
    authenticator.apply(AccessRules(is_required=token is not None, tokens=rules))
    try:
        async with serving([echo.service()], chosen, None, authenticator, TokenLimits(chosen)):
            yield echo
    finally:
        for client in echo.clients:
            client.writer.transport.abort()
    assert not faults


Scenario = Callable[[Client, Echo], Coroutine[Any, Any, None]]


def run(folder: Path, scenario: Scenario, *, client: dict[int, int] | None = None, **settings: Any) -> None:
    """Runs a scenario with a server and a client that sends the settings `client`."""

    async def main() -> None:
        async with echo_server(folder, **settings) as echo:
            await asyncio.wait_for(scenario(await echo.connect(client), echo), 3 * WAIT_S)

    uvloop.run(main())
