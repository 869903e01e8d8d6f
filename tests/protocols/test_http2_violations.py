"""HTTP/2 of the gRPC port: what it refuses and how, what it withstands, and random bytes."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
import uvloop

from tests.protocols.http2_client import (
    HEADERS,
    WAIT_S,
    Client,
    Echo,
    data,
    echo_server,
    message,
    run,
)  # fmt: skip
from tfserve.web.http2 import frames
from tfserve.web.http2.connection import CONNECTION_WINDOW
from tfserve.web.http2.frames import ErrorCode, frame, rst_stream, settings, window_update
from tfserve.web.http2.streams import WINDOW_BYTES

MIB = 2**20


# --- violations

CONNECTION_ERRORS: dict[str, tuple[bytes, ErrorCode]] = {
    "a frame that is too large": (frames.head(16_385, frames.DATA, 0, 1), ErrorCode.FRAME_SIZE_ERROR),
    "data on stream 0": (data(0, b"x"), ErrorCode.PROTOCOL_ERROR),
    "data on an idle stream": (data(7, b"x"), ErrorCode.PROTOCOL_ERROR),
    "headers on an even stream": (frame(frames.HEADERS, 5, 2, b"\x82"), ErrorCode.PROTOCOL_ERROR),
    "headers on stream 0": (frame(frames.HEADERS, 5, 0, b"\x82"), ErrorCode.PROTOCOL_ERROR),
    "a block that is not HPACK": (frame(frames.HEADERS, 5, 1, b"\x00"), ErrorCode.COMPRESSION_ERROR),
    "padding without end": (frame(frames.HEADERS, 0xD, 1, b"\x09abc"), ErrorCode.PROTOCOL_ERROR),
    "headers without their priority": (frame(frames.HEADERS, 0x25, 1, b"\x00"), ErrorCode.FRAME_SIZE_ERROR),
    "headers that depend on themselves": (frame(frames.HEADERS, 0x25, 1, b"\0\0\0\1\0\x82"), ErrorCode.PROTOCOL_ERROR),
    "an interrupted block": (frame(frames.HEADERS, 0, 1, b"\x82") + data(1, b""), ErrorCode.PROTOCOL_ERROR),
    "a block continued on another stream": (
        frame(frames.HEADERS, 0, 1, b"\x82") + frame(frames.CONTINUATION, 4, 3, b""), ErrorCode.PROTOCOL_ERROR),
    "a continuation of nothing": (frame(frames.CONTINUATION, 4, 1, b""), ErrorCode.PROTOCOL_ERROR),
    "continuations without end": (
        frame(frames.HEADERS, 0, 1, b"\x82") + frame(frames.CONTINUATION, 0, 1, b"") * 20, ErrorCode.ENHANCE_YOUR_CALM),
    "a block that is too large": (
        frame(frames.HEADERS, 0, 1, b"\x82") + frame(frames.CONTINUATION, 0, 1, bytes(16_000)) * 5,
        ErrorCode.ENHANCE_YOUR_CALM),
    "a push promise": (frame(frames.PUSH_PROMISE, 4, 1, bytes(4)), ErrorCode.PROTOCOL_ERROR),
    "a short ping": (frame(frames.PING, 0, 0, b"1234567"), ErrorCode.FRAME_SIZE_ERROR),
    "a ping on a stream": (frame(frames.PING, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
    "settings on a stream": (frame(frames.SETTINGS, 0, 1), ErrorCode.PROTOCOL_ERROR),
    "half a setting": (frame(frames.SETTINGS, 0, 0, b"123"), ErrorCode.FRAME_SIZE_ERROR),
    "an acknowledgement with settings": (frame(frames.SETTINGS, 1, 0, bytes(6)), ErrorCode.FRAME_SIZE_ERROR),
    "a window that is too large": (settings({frames.INITIAL_WINDOW_SIZE: 2**31}), ErrorCode.FLOW_CONTROL_ERROR),
    "a frame size that is too small": (settings({frames.MAX_FRAME_SIZE: 100}), ErrorCode.PROTOCOL_ERROR),
    "an odd value for push": (settings({frames.ENABLE_PUSH: 2}), ErrorCode.PROTOCOL_ERROR),
    "a window update by nothing": (window_update(0, 0), ErrorCode.FLOW_CONTROL_ERROR),
    "window updates beyond the maximum": (window_update(0, 2**31 - 1), ErrorCode.FLOW_CONTROL_ERROR),
    "a window update of an idle stream": (window_update(9, 1), ErrorCode.PROTOCOL_ERROR),
    "a short window update": (frame(frames.WINDOW_UPDATE, 0, 0, b"1"), ErrorCode.FRAME_SIZE_ERROR),
    "a reset of an idle stream": (rst_stream(9, ErrorCode.CANCEL), ErrorCode.PROTOCOL_ERROR),
    "a reset of stream 0": (rst_stream(0, ErrorCode.CANCEL), ErrorCode.PROTOCOL_ERROR),
    "a priority of nothing": (frame(frames.PRIORITY, 0, 0, bytes(5)), ErrorCode.PROTOCOL_ERROR),
    "a flood of pings": (frame(frames.PING, 0, 0, bytes(8)) * 3000, ErrorCode.ENHANCE_YOUR_CALM),
    "a flood of settings": (frame(frames.SETTINGS, 0, 0) * 3000, ErrorCode.ENHANCE_YOUR_CALM),
    "a flood of frames of an unknown type": (frame(99, 0, 0) * 3000, ErrorCode.ENHANCE_YOUR_CALM),
}  # fmt: skip


@pytest.mark.parametrize("what", CONNECTION_ERRORS)
def test_a_violation_ends_the_connection_with_its_code(tmp_path: Path, what: str) -> None:
    sent, code = CONNECTION_ERRORS[what]

    async def scenario(client: Client, _: Echo) -> None:
        client.send(sent)
        goaway = await client.find(frames.GOAWAY)
        assert (ErrorCode(goaway.code), bool(goaway.payload[8:])) == (code, True)
        assert await client.is_closed()

    run(tmp_path, scenario)


STREAM_ERRORS: dict[str, list[tuple[str, str]]] = {
    "an upper-case name": [*HEADERS, ("X-Upper", "1")],
    "a name with a space": [*HEADERS, ("a b", "1")],
    "an empty name": [*HEADERS, ("", "1")],
    "a value with a line feed": [*HEADERS, ("x-evil", "1\nx: 2")],
    "an unknown pseudo-header field": [(":protocol", "websocket"), *HEADERS],
    "a pseudo-header field after others": [*HEADERS, (":path", "/")],
    "a repeated pseudo-header field": [*HEADERS[:3], *HEADERS],
    "a field for a connection": [*HEADERS, ("connection", "close")],
    "another te": [*HEADERS[:-1], ("te", "gzip")],
    "no path": [each for each in HEADERS if each[0] != ":path"],
    "an empty path": [(name, "" if name == ":path" else value) for name, value in HEADERS],
    "no method": HEADERS[1:],
}


def test_malformed_requests_are_reset_and_the_connection_continues(tmp_path: Path) -> None:
    async def scenario(client: Client, _: Echo) -> None:
        for stream, fields in enumerate(STREAM_ERRORS.values()):
            stream_id = 2 * stream + 1
            block = client.encoder.encode(fields)
            client.send(frame(frames.HEADERS, frames.END_HEADERS, stream_id, block), data(stream_id, message()))
            found = await client.find(frames.RST_STREAM, frames.HEADERS)
            assert (found.kind, found.stream) == (frames.RST_STREAM, stream_id), fields
            assert found.code == ErrorCode.PROTOCOL_ERROR
        client.send(client.headers(201), data(201, message()))
        assert (await client.response(201))[2]["grpc-status"] == "0"

    run(tmp_path, scenario)


def test_more_data_than_the_window_resets_the_stream(tmp_path: Path) -> None:
    """A method that does not read lets its client send one window, and not more."""

    async def scenario(client: Client, _: Echo) -> None:
        client.send(client.headers(1, path="/test.Echo/Stream"), data(1, message(id="wait") * 2, 0))
        for _ in range(WINDOW_BYTES // 16_000 + 1):
            client.send(data(1, bytes(16_000), 0))
        found = await client.find(frames.RST_STREAM)
        assert found.code == ErrorCode.FLOW_CONTROL_ERROR

    run(tmp_path, scenario)


def test_rapid_resets_end_the_connection(tmp_path: Path) -> None:
    async def scenario(client: Client, _: Echo) -> None:
        for stream in range(1, 6001, 2):
            client.send(client.headers(stream), rst_stream(stream, ErrorCode.CANCEL))
        goaway = await client.find(frames.GOAWAY)
        assert goaway.code == ErrorCode.ENHANCE_YOUR_CALM

    run(tmp_path, scenario)


def test_more_streams_than_allowed_are_refused_and_may_be_sent_again(tmp_path: Path) -> None:
    async def scenario(client: Client, _: Echo) -> None:
        client.send(*(client.headers(stream) for stream in range(1, 9, 2)))
        found = await client.find(frames.RST_STREAM)
        assert (found.stream, found.code) == (7, ErrorCode.REFUSED_STREAM)

    run(tmp_path, scenario, max_requests=3)


@pytest.mark.parametrize("sent", [b"", frames.PREFACE[:10], frames.PREFACE, frames.PREFACE + settings({})[:5]])
def test_a_client_that_says_nothing_is_disconnected(tmp_path: Path, sent: bytes) -> None:
    async def main() -> None:
        async with echo_server(tmp_path, header_timeout_s=0.2) as echo:
            reader, writer = await asyncio.open_connection("127.0.0.1", echo.port)
            writer.write(sent)
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await asyncio.wait_for(reader.readexactly(100_000), WAIT_S)
            writer.close()

    uvloop.run(main())


def test_http_1_gets_an_answer_that_says_what_the_port_is_for(tmp_path: Path) -> None:
    async def main() -> None:
        async with echo_server(tmp_path) as echo:
            reader, writer = await asyncio.open_connection("127.0.0.1", echo.port)
            writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            received = await asyncio.wait_for(reader.read(), WAIT_S)
            head, _, body = received[received.index(b"HTTP/1.1 505") :].partition(b"\r\n\r\n")
            assert b"content-length: %d" % len(body) in head
            assert b"serves gRPC" in body
            writer.close()

    uvloop.run(main())


@pytest.mark.parametrize(
    ("fields", "status"),
    [({"method": "GET"}, "405"), ({"content_type": "application/json"}, "415"), ({"content_type": None}, "415")],
)
def test_what_is_not_grpc_gets_a_status_of_http(tmp_path: Path, fields: dict[str, str], status: str) -> None:
    async def scenario(client: Client, _: Echo) -> None:
        client.send(client.headers(1, frames.END_HEADERS | frames.END_STREAM, **fields))
        found = await client.find(frames.HEADERS)
        assert dict(client.decoder.decode(found.payload))[":status"] == status
        body = await client.find(frames.DATA)
        assert b"serves gRPC" in body.payload

    run(tmp_path, scenario)


# --- anything else


@pytest.mark.parametrize("seed", range(8))
def test_whatever_is_sent_the_server_keeps_serving(tmp_path: Path, seed: int) -> None:
    """Right calls whose bytes are damaged, cut, repeated and mixed; then a right call on a new connection."""
    random_ = random.Random(seed)

    async def main() -> None:
        async with echo_server(tmp_path, max_requests=50) as echo:
            for _ in range(40):
                await attack(echo, random_)
            client = await echo.connect()
            client.send(client.headers(1), data(1, message(id="still here")))
            assert (await client.response(1))[1] == message(id="still here")

    uvloop.run(main())


async def attack(echo: Echo, random_: random.Random) -> None:
    client = await echo.connect()
    pieces = [random_piece(client, random_) for _ in range(random_.randrange(1, 30))]
    sent = bytearray(b"".join(pieces))
    for _ in range(random_.randrange(4)):
        sent[random_.randrange(len(sent))] = random_.randrange(256)
    client.send(bytes(sent))
    if random_.random() < 0.5:
        client.writer.write_eof()
        while await client.frame() is not None:
            pass


def random_piece(client: Client, random_: random.Random) -> bytes:
    stream = random_.choice([1, 1, 3, 5, 7, 0, 2, 2**31 - 1])
    path = random_.choice(["/test.Echo/Unary", "/test.Echo/Stream", "/x"])
    flags = random_.choice([0, 1, 4, 5, 8, 32, 255])
    return random_.choice(
        [
            lambda: client.headers(stream, path=path),
            lambda: client.headers(
                stream, random_.choice([0, 4, 5, 0xD, 0x24]), path=path, x_any=str(random_.random())
            ),
            lambda: data(stream, message(id=random_.choice(["a", "wait", "bad"])), random_.choice([0, 1])),
            lambda: data(stream, random_.randbytes(random_.randrange(40)), flags),
            lambda: settings({random_.randrange(8): random_.choice([0, 1, 100, 2**14, 2**31 - 1, 2**32 - 1])}),
            lambda: window_update(stream, random_.choice([0, 1, 2**31 - 1])),
            lambda: rst_stream(stream, ErrorCode.CANCEL),
            lambda: frame(frames.PING, flags & 1, 0, bytes(8)),
            lambda: frame(random_.randrange(256), flags, stream, random_.randbytes(random_.randrange(20))),
        ]
    )()


def test_the_window_of_a_connection_is_as_large_as_announced(tmp_path: Path) -> None:
    async def scenario(client: Client, _: Echo) -> None:
        found = await client.find(frames.WINDOW_UPDATE)
        assert int.from_bytes(found.payload) + frames.DEFAULT_WINDOW == CONNECTION_WINDOW

    run(tmp_path, scenario)
