"""The gRPC port and clients without a token: what they may send, keep open, and always get an answer to."""

from __future__ import annotations

import asyncio
import struct
from pathlib import Path
from typing import Any

import pytest
import uvloop

from tests.protocols.http2_client import Client, Echo, Scenario, data, echo_server, message
from tfserve.ipc.messages import AccessRules
from tfserve.web.grpc_server.messages import PUBLIC_BYTES
from tfserve.web.http2 import frames
from tfserve.web.http2.frames import ErrorCode

TOKEN = "tfs_secret"
MIB = 2**20
PIECE = bytes(16_000)
PING = frames.frame(frames.PING, 0, 0, bytes(8))
HEALTH, WATCH = "/test.Echo/Health", "/test.Echo/Watch"


def guarded(folder: Path, scenario: Scenario, **settings: Any) -> None:
    """Runs a scenario with a server that requires `TOKEN`."""

    async def main() -> None:
        async with echo_server(folder, token=TOKEN, **settings) as echo:
            await asyncio.wait_for(scenario(await echo.connect(), echo), 60)

    uvloop.run(main())


@pytest.mark.parametrize(("key", "word"), [(None, "requires a token"), ("wrong", "was refused")])
@pytest.mark.parametrize("path", ["/test.Echo/Unary", "/test.Echo/Stream"])
def test_a_call_without_a_valid_token_is_refused_before_its_message(
    tmp_path: Path, path: str, key: str | None, word: str
) -> None:
    async def scenario(client: Client, _: Echo) -> None:
        fields = {"x_api_key": key} if key else {}
        client.send(client.headers(1, path=path, **fields), data(1, struct.pack(">BI", 0, MIB), 0))
        trailers = (await client.response(1))[2]
        assert (trailers["grpc-status"], word in trailers["grpc-message"]) == ("16", True)

    guarded(tmp_path, scenario)


def test_nothing_is_received_of_a_call_whose_refusal_is_delayed(tmp_path: Path) -> None:
    async def scenario(client: Client, _: Echo) -> None:
        for stream in range(1, 13, 2):  # the last one has to wait
            client.send(client.headers(stream, x_api_key="wrong"))
        client.send(data(11, struct.pack(">BI", 0, 2 * MIB), 0), *(data(11, PIECE, 0) for _ in range(60)))
        kinds = []
        while (found := await client.frame()) is not None:
            kinds.append(found.kind if found.stream == 11 else None)
            if found.stream == 11:
                break
        assert frames.WINDOW_UPDATE not in kinds

    guarded(tmp_path, scenario)


def test_a_message_counts_for_its_token_before_it_has_arrived(tmp_path: Path) -> None:
    async def scenario(client: Client, _: Echo) -> None:
        begin = struct.pack(">BI", 0, MIB) + PIECE[:1000]
        client.send(client.headers(1, x_api_key=TOKEN), data(1, begin, 0))
        client.send(client.headers(3, x_api_key=TOKEN), data(3, begin, 0))
        trailers = (await client.response(3))[2]
        assert (trailers["grpc-status"], "token_bytes_in_flight" in trailers["grpc-message"]) == ("8", True)
        client.send(frames.rst_stream(1, ErrorCode.CANCEL))
        client.send(client.headers(5, x_api_key=TOKEN), data(5, message(id="x" * MIB)[:1000], 0))
        client.send(client.headers(7, x_api_key=TOKEN), data(7, message(id="small")))
        assert (await client.response(7))[1] == message(id="small")

    guarded(tmp_path, scenario, token_bytes_in_flight=MIB + 1000)


def test_a_token_that_ended_while_the_message_arrived_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tfserve.web.grpc_server.calls.CHECK_AGAIN_S", -1.0)

    async def scenario(client: Client, echo: Echo) -> None:
        client.send(client.headers(1, x_api_key=TOKEN), data(1, message(id="a")[:3], 0), PING)
        await client.find(frames.PING)  # what was sent before has been received
        echo.authenticator.apply(AccessRules(is_required=True, tokens=[]))
        client.send(data(1, message(id="a")[3:]))
        assert (await client.response(1))[2]["grpc-status"] == "16"

    guarded(tmp_path, scenario)


def test_health_is_answered_while_the_server_is_busy_and_with_an_old_token(tmp_path: Path) -> None:
    async def scenario(client: Client, echo: Echo) -> None:
        client.send(client.headers(1, x_api_key=TOKEN), data(1, message(id="wait")))
        await echo.waiting.wait()
        second = await echo.connect()
        second.send(second.headers(1, x_api_key=TOKEN), data(1, message()))
        assert (await second.response(1))[2]["grpc-status"] == "8"
        for stream, fields in ((3, {}), (5, {"x_api_key": "old"}), (7, {"authorization": "Basic x"})):
            second.send(second.headers(stream, path=HEALTH, **fields), data(stream, message(id="h")))
            assert (await second.response(stream))[1] == message(id="h")

    guarded(tmp_path, scenario, max_requests=1)


def test_streams_without_a_token_have_a_limit_of_their_own(tmp_path: Path) -> None:
    async def scenario(client: Client, echo: Echo) -> None:
        for stream in (1, 3):
            client.send(client.headers(stream, path=WATCH, x_api_key="old"), data(stream, message(id="h"), 0))
            assert (await client.find(frames.DATA)).payload == message(id="h")
        second = await echo.connect()
        second.send(second.headers(1, path=WATCH), data(1, message(), 0))
        assert (await second.response(1))[2]["grpc-status"] == "8"
        second.send(second.headers(3, x_api_key=TOKEN), data(3, message(id="a")))
        assert (await second.response(3))[1] == message(id="a")
        second.send(second.headers(5, path=WATCH, x_api_key=TOKEN), data(5, message(id="w"), 0))
        assert (await second.find(frames.DATA)).payload == message(id="w")

    guarded(tmp_path, scenario, max_requests=2)


def test_messages_without_a_token_are_small(tmp_path: Path) -> None:
    async def scenario(client: Client, _: Echo) -> None:
        long = message(id="x" * PUBLIC_BYTES)
        client.send(client.headers(1, path=HEALTH), data(1, long))
        assert (await client.response(1))[2]["grpc-status"] == "8"
        client.send(client.headers(3, path=HEALTH, x_api_key=TOKEN), data(3, long))
        assert (await client.response(3))[2]["grpc-status"] == "8", "health checks are not counted in max_requests"
        client.send(client.headers(5, path=WATCH), data(5, bytes(PUBLIC_BYTES + 100), 0))
        assert (await client.find(frames.RST_STREAM)).code == ErrorCode.ENHANCE_YOUR_CALM

    guarded(tmp_path, scenario)
