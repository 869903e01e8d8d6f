"""HTTP/2 of the gRPC port, frame by frame: what it takes, what it refuses and how, and what it withstands."""

from __future__ import annotations

import asyncio
import gzip
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from tests.protocols.http2_client import (
    HEADERS,
    WAIT_S,
    Client,
    Echo,
    Message,
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


# --- calls


def test_a_call_gets_headers_message_and_trailers(tmp_path: Path) -> None:
    async def scenario(client: Client, _: Echo) -> None:
        client.send(client.headers(1, x_request_id="mine"), data(1, message(id="a")))
        head, content, trailers = await client.response(1)
        assert (head[":status"], head["content-type"]) == ("200", "application/grpc")
        assert content == message(id="a")
        assert (trailers["grpc-status"], trailers["x-request-id"]) == ("0", "mine")

    run(tmp_path, scenario)


def test_a_message_in_single_bytes_with_padding_and_priority(tmp_path: Path) -> None:
    async def scenario(client: Client, _: Echo) -> None:
        block = client.headers(1)[frames.HEAD_BYTES :]
        flags = frames.PADDED | frames.WITH_PRIORITY
        client.send(frame(frames.HEADERS, flags, 1, b"\x03" + bytes(5) + block[:4] + bytes(3)))
        client.send(frame(frames.CONTINUATION, 0, 1, b""), frame(frames.CONTINUATION, frames.END_HEADERS, 1, block[4:]))
        for byte in message(id="abc"):
            client.send(frame(frames.DATA, frames.PADDED, 1, b"\x02" + bytes((byte, 0, 0))))
        client.send(data(1, b""))
        assert (await client.response(1))[1] == message(id="abc")

    run(tmp_path, scenario)


def test_frames_may_arrive_byte_by_byte(tmp_path: Path) -> None:
    async def scenario(client: Client, _: Echo) -> None:
        client.writer.transport.set_write_buffer_limits(0)
        for byte in client.headers(1) + data(1, message(id="slow")):
            client.send(bytes((byte,)))
            await client.writer.drain()
        assert (await client.response(1))[1] == message(id="slow")

    run(tmp_path, scenario)


def test_equal_and_changing_header_blocks_mean_what_they_say(tmp_path: Path) -> None:
    """Blocks are remembered; a change of the table changes what equal bytes mean."""

    async def scenario(client: Client, _: Echo) -> None:
        for at in range(60):
            stream = 2 * at + 1
            client.send(client.headers(stream, x_request_id=f"id-{at // 3}"), data(stream, message()))
            assert (await client.response(stream))[2]["x-request-id"] == f"id-{at // 3}"

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"path": "/test.Echo/Unry"}, "12", "did you mean '/test.Echo/Unary'"),
        ({"path": "/"}, "12", "no gRPC method '/'"),
        ({"grpc_encoding": "br"}, "12", "Supported: identity, gzip, deflate"),
        ({"grpc_timeout": "soon"}, "3", "such as 500m"),
        ({"x_long": "x" * 17_000}, "3", "the maximum is 16384"),
    ],
)
def test_a_call_that_can_not_be_made_is_refused_with_a_sentence(
    tmp_path: Path, fields: dict[str, str], status: str, words: str
) -> None:
    async def scenario(client: Client, _: Echo) -> None:
        whole = client.headers(1, **fields)[frames.HEAD_BYTES :]
        client.send(frame(frames.HEADERS, 0, 1, whole[:9]), frame(frames.CONTINUATION, 0, 1, whole[9:9000]))
        client.send(frame(frames.CONTINUATION, frames.END_HEADERS, 1, whole[9000:]))
        _, _, trailers = await client.response(1)
        assert (trailers["grpc-status"], words in trailers["grpc-message"]) == (status, True), trailers
        assert trailers["x-request-id"]

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("payload", "status", "words"),
    [
        (b"", "12", "exactly one message, got none"),
        (b"\x00\x00", "12", "got a part of one"),
        (message(id="a")[:-1], "12", "got a part of one"),
        (message() * 2, "12", "got several"),
        (b"\x02" + bytes(4), "3", "begins with 0 or 1"),
        (b"\x01" + bytes(4), "3", "marked as compressed"),
        (b"\x00" + struct.pack(">I", 3) + b"\xff\xff\xff", "3", "can't be read as inference.ModelInferRequest"),
        (message(id="bad"), "3", "100 %25 wrong: %C3%A4%0A"),
        (message(id="fault"), "13", ""),
    ],
)
def test_bad_messages_and_failures_end_a_call_with_a_status(
    tmp_path: Path, payload: bytes, status: str, words: str
) -> None:
    async def scenario(client: Client, _: Echo) -> None:
        client.send(client.headers(1), data(1, payload))
        head, _, trailers = await client.response(1)
        assert (trailers["grpc-status"], words in trailers["grpc-message"]) == (status, True), trailers
        assert not head  # the trailers are the whole response

    run(tmp_path, scenario)


@pytest.mark.parametrize("at_once", [True, False])
def test_a_message_beyond_the_limit_is_refused_before_it_has_arrived(tmp_path: Path, at_once: bool) -> None:
    async def scenario(client: Client, _: Echo) -> None:
        client.send(client.headers(1), data(1, b"\x00" + struct.pack(">I", 2000) + bytes(5), 0 if at_once else 1))
        _, _, trailers = await client.response(1)
        assert (trailers["grpc-status"], "1000 bytes" in trailers["grpc-message"]) == ("8", True)
        client.send(data(1, bytes(100)), client.headers(3), data(3, message()))  # what was on its way is ignored
        if at_once:
            reset = await client.find(frames.RST_STREAM)
            assert (reset.stream, reset.code) == (1, ErrorCode.NO_ERROR)
        assert (await client.response(3))[2]["grpc-status"] == "0"

    run(tmp_path, scenario, max_body_bytes=1000)


@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_compressed_messages(tmp_path: Path, encoding: str, compress: Callable[[bytes], bytes]) -> None:
    async def send(client: Client, stream: int, content: bytes) -> dict[str, str]:
        client.send(client.headers(stream, grpc_encoding=encoding))
        client.send(data(stream, b"\x01" + struct.pack(">I", len(content)) + content))
        _, received, trailers = await client.response(stream)
        assert not received or received == message(id="packed")
        return trailers

    async def scenario(client: Client, _: Echo) -> None:
        packed = compress(Message(id="packed").SerializeToString())
        assert (await send(client, 1, packed))["grpc-status"] == "0"
        assert "truncated" in (await send(client, 3, packed[:-3]))["grpc-message"]
        assert "decompressed" in (await send(client, 5, b"\x00" + packed))["grpc-message"]
        bomb = compress(bytes(50 * MIB))
        assert (await send(client, 7, bomb[:16_000]))["grpc-status"] == "8"

    run(tmp_path, scenario, max_body_bytes=MIB)


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


# --- cancelling, deadlines, the end


def test_a_reset_cancels_the_call(tmp_path: Path) -> None:
    async def scenario(client: Client, echo: Echo) -> None:
        client.send(client.headers(1), data(1, message(id="wait")))
        await echo.waiting.wait()
        client.send(rst_stream(1, ErrorCode.CANCEL), client.headers(3), data(3, message()))
        await asyncio.wait_for(echo.cancelled.wait(), WAIT_S)
        assert (await client.response(3))[2]["grpc-status"] == "0"

    run(tmp_path, scenario)


def test_calls_that_are_cancelled_at_any_moment_are_counted_once(tmp_path: Path) -> None:
    """The limit of calls in progress still holds after many of them have been cancelled."""

    async def scenario(client: Client, _: Echo) -> None:
        for stream in range(1, 400, 8):
            client.send(client.headers(stream), rst_stream(stream, ErrorCode.CANCEL))
            client.send(
                client.headers(stream + 2), data(stream + 2, message()), rst_stream(stream + 2, ErrorCode.CANCEL)
            )
            client.send(client.headers(stream + 4), data(stream + 4, message(id="wait")))
            client.send(client.headers(stream + 6, path="/test.Echo/Stream"), data(stream + 6, message(), 0))
            await client.find(frames.DATA)
            client.send(rst_stream(stream + 4, ErrorCode.CANCEL), rst_stream(stream + 6, ErrorCode.CANCEL))
        client.send(client.headers(1001), data(1001, message()), client.headers(1003), data(1003, message()))
        assert (await client.response(1003))[2]["grpc-status"] == "0"

    run(tmp_path, scenario, max_requests=4)


def test_the_end_of_the_connection_cancels_its_calls(tmp_path: Path) -> None:
    async def scenario(client: Client, echo: Echo) -> None:
        client.send(client.headers(1), data(1, message(id="wait")))
        await echo.waiting.wait()
        client.writer.close()
        await asyncio.wait_for(echo.cancelled.wait(), WAIT_S)

    run(tmp_path, scenario)


@pytest.mark.parametrize("has_message", [True, False])
def test_the_deadline_ends_a_call(tmp_path: Path, has_message: bool) -> None:
    async def scenario(client: Client, _: Echo) -> None:
        client.send(client.headers(1, grpc_timeout="20m"), data(1, message(id="wait")) if has_message else b"")
        _, _, trailers = await client.response(1)
        assert (trailers["grpc-status"], "deadline" in trailers["grpc-message"]) == ("4", True)

    run(tmp_path, scenario)


def test_more_calls_than_the_limit_are_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with echo_server(tmp_path, max_requests=2) as echo:
            first, second = await echo.connect(), await echo.connect()
            first.send(first.headers(1), first.headers(3), data(3, message(id="wait")))
            await echo.waiting.wait()
            second.send(second.headers(1), data(1, message()))
            trailers = (await second.response(1))[2]
            assert (trailers["grpc-status"], "max_requests" in trailers["grpc-message"]) == ("8", True)
            first.send(data(1, message()))
            assert (await first.response(1))[2]["grpc-status"] == "0"
            second.send(second.headers(3), data(3, message()))
            assert (await second.response(3))[2]["grpc-status"] == "0"

    uvloop.run(main())


def test_a_server_that_stops_lets_calls_end_and_refuses_new_ones(tmp_path: Path) -> None:
    async def main() -> None:
        async with echo_server(tmp_path) as echo:
            client = await echo.connect()
            idle = await echo.connect()
            await idle.find(frames.SETTINGS)
            client.send(client.headers(1), data(1, message(id="last")[:3], 0))
            await client.find(frames.SETTINGS)
            stopped = asyncio.create_task(finish(client))
        received = await stopped
        assert received == message(id="last")
        assert await idle.is_closed()

    async def finish(client: Client) -> bytes:
        goaway = await client.find(frames.GOAWAY)
        assert goaway.code == ErrorCode.NO_ERROR
        client.send(client.headers(3), data(1, message(id="last")[3:]))
        refused = await client.find(frames.RST_STREAM)
        assert (refused.stream, refused.code) == (3, ErrorCode.REFUSED_STREAM)
        _, content, _ = await client.response(1)
        assert await client.is_closed()
        return content

    uvloop.run(main())


# --- flow control


def test_a_response_waits_for_the_windows_of_the_client(tmp_path: Path) -> None:
    async def scenario(client: Client, _: Echo) -> None:
        sent = message(id="x" * 100)
        client.send(client.headers(1), data(1, sent))
        received = b""
        for size in (10, 25, 1000):
            found = await client.find(frames.DATA)
            received += found.payload
            client.send(window_update(1, size))
        _, rest, trailers = await client.response(1)
        assert (received + rest, trailers["grpc-status"]) == (sent, "0")

    run(tmp_path, scenario, client={frames.INITIAL_WINDOW_SIZE: 10})


def test_a_changed_window_applies_to_open_streams(tmp_path: Path) -> None:
    async def scenario(client: Client, _: Echo) -> None:
        sent = message(id="x" * 100)
        client.send(client.headers(1), data(1, sent), client.headers(3), data(3, sent))
        client.send(settings({frames.INITIAL_WINDOW_SIZE: 200}))
        assert (await client.response(3))[1] in (sent, b"")
        client.send(client.headers(5), data(5, sent))
        assert (await client.response(5))[1] == sent

    run(tmp_path, scenario, client={frames.INITIAL_WINDOW_SIZE: 0})


def test_a_large_message_goes_both_ways(tmp_path: Path) -> None:
    async def scenario(client: Client, _: Echo) -> None:
        sent = message(raw_input_contents=[random.Random(1).randbytes(3 * MIB)])
        client.send(client.headers(1), window_update(0, 2**30))
        sending = asyncio.create_task(send_within_windows(client, sent))
        received = b""
        while len(received) < len(sent):
            found = await client.frame()
            assert found is not None
            if found.kind == frames.DATA:
                received += found.payload
            elif found.kind == frames.WINDOW_UPDATE and found.stream == 1:
                client.window += int.from_bytes(found.payload)  # type: ignore[attr-defined]
                client.opened.set()  # type: ignore[attr-defined]
        await sending
        assert received == sent

    run(tmp_path, scenario, client={frames.INITIAL_WINDOW_SIZE: 2**31 - 1})


async def send_within_windows(client: Client, payload: bytes) -> None:
    client.window, client.opened, at = WINDOW_BYTES, asyncio.Event(), 0  # type: ignore[attr-defined]
    while at < len(payload):
        size = min(client.window, frames.MAX_FRAME_BYTES, len(payload) - at)  # type: ignore[attr-defined]
        if not size:
            client.opened.clear()  # type: ignore[attr-defined]
            await client.opened.wait()  # type: ignore[attr-defined]
            continue
        client.send(data(1, payload[at : at + size], 0))
        client.window -= size  # type: ignore[attr-defined]
        at += size
        await client.writer.drain()
    client.send(data(1, b""))


def test_a_stream_that_is_not_read_does_not_hold_up_others_nor_fill_the_memory(tmp_path: Path) -> None:
    """Its responses wait, and then its requests: at the window of the stream, the client has to stop."""

    async def scenario(client: Client, _: Echo) -> None:
        piece = message(raw_input_contents=[bytes(10_000)])
        client.send(client.headers(1, path="/test.Echo/Stream"), window_update(0, MIB))
        for _ in range(WINDOW_BYTES // len(piece)):
            client.send(data(1, piece, 0))
        await client.writer.drain()
        client.send(client.headers(3), data(3, message()))
        taken = 0
        while True:
            found = await client.frame()
            assert found is not None
            if found.kind == frames.WINDOW_UPDATE and found.stream == 1:
                taken += int.from_bytes(found.payload)
            if found.stream == 3 and found.flags & frames.END_STREAM:
                break
        assert taken < WINDOW_BYTES

    run(tmp_path, scenario)


# --- violations

CONNECTION_ERRORS: dict[str, tuple[bytes, ErrorCode]] = {
    "a frame that is too large": (frames.head(16_385, frames.DATA, 0, 1), ErrorCode.FRAME_SIZE_ERROR),
    "data on stream 0": (data(0, b"x"), ErrorCode.PROTOCOL_ERROR),
    "data on an idle stream": (data(7, b"x"), ErrorCode.PROTOCOL_ERROR),
    "headers on an even stream": (frame(frames.HEADERS, 5, 2, b"\x82"), ErrorCode.PROTOCOL_ERROR),
    "headers on stream 0": (frame(frames.HEADERS, 5, 0, b"\x82"), ErrorCode.PROTOCOL_ERROR),
    "a block that is no HPACK": (frame(frames.HEADERS, 5, 1, b"\x00"), ErrorCode.COMPRESSION_ERROR),
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
