"""HTTP/2 of the gRPC port, frame by frame: calls, cancelling, the end, and flow control."""

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
        ({"x_long": "x" * 17_000}, "8", "the maximum is 16384"),
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


@pytest.mark.parametrize("part", [b"", message(id="abc")[:6]])
def test_a_message_that_does_not_arrive_ends_its_call(tmp_path: Path, part: bytes) -> None:
    async def scenario(client: Client, _: Echo) -> None:
        client.send(client.headers(1), data(1, part, 0) if part else b"")
        _, _, trailers = await client.response(1)
        assert (trailers["grpc-status"], "body_timeout_s" in trailers["grpc-message"]) == ("4", True)
        client.send(client.headers(3), data(3, message()))
        assert (await client.response(3))[2]["grpc-status"] == "0"

    run(tmp_path, scenario, body_timeout_s=0.1, max_requests=1)


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


def test_responses_that_clients_do_not_take_count_as_calls_in_progress(tmp_path: Path) -> None:
    async def main() -> None:
        async with echo_server(tmp_path, max_requests=2) as echo:
            first, second = await echo.connect({frames.INITIAL_WINDOW_SIZE: 0}), await echo.connect()
            first.send(first.headers(1), data(1, message(id="a")), first.headers(3), data(3, message(id="b")))
            await first.find(frames.HEADERS)
            await first.find(frames.HEADERS)
            second.send(second.headers(1), data(1, message()))
            assert (await second.response(1))[2]["grpc-status"] == "8"
            first.send(window_update(1, 100), rst_stream(3, ErrorCode.CANCEL))
            await first.find(frames.HEADERS)  # the trailers
            second.send(second.headers(3), data(3, message()))
            assert (await second.response(3))[2]["grpc-status"] == "0"

    uvloop.run(main())


def test_the_deadline_also_limits_how_long_a_response_waits(tmp_path: Path) -> None:
    async def scenario(client: Client, _: Echo) -> None:
        client.send(client.headers(1, grpc_timeout="20m"), data(1, message(id="a")))
        found = await client.find(frames.RST_STREAM)
        assert (found.stream, found.code) == (1, ErrorCode.CANCEL)

    run(tmp_path, scenario, client={frames.INITIAL_WINDOW_SIZE: 0})


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
