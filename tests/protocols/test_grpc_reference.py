"""Our gRPC server and grpcio's own give the same answers to grpcio's client: statuses, messages, metadata and bytes.

Streams use its client with threads. The one for asyncio overwrites a status that came while it was still sending (its
issue 36066): "Internal error from Core" then, from any server.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest

from tests.protocols.http2_client import Echo, Message, echo_server
from tfserve.errors import TFserveError
from tfserve.web.rpc import STATUS

MIB = 2**20
LIMIT = 8 * MIB
UNARY, STREAM = "/test.Echo/Unary", "/test.Echo/Stream"
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class Outcome(NamedTuple):
    code: str
    details: str
    responses: list[bytes]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


async def reference_server(echo: Echo) -> tuple[grpc.aio.Server, int]:
    """grpcio's server with the same methods."""

    async def unary(data: bytes, context: Any) -> bytes:
        try:
            return (await echo.unary(Message.FromString(data), context)).SerializeToString()
        except TFserveError as error:
            await context.abort(getattr(grpc.StatusCode, STATUS[error.kind].name), error.message)
            raise

    async def stream(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for data in requests:
            yield await unary(data, context)

    server = grpc.aio.server(options=[("grpc.max_receive_message_length", LIMIT), ("grpc.max_send_message_length", -1)])
    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Stream": grpc.stream_stream_rpc_method_handler(stream),
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Echo", handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, port


class Client(NamedTuple):
    aio: grpc.aio.Channel
    threaded: grpc.Channel


Exchange = Callable[[Client], Coroutine[Any, Any, Outcome]]


def both(folder: Path, exchange: Exchange) -> tuple[Outcome, Outcome]:
    """What our server answers, and what the reference answers."""

    async def main() -> tuple[Outcome, Outcome]:
        async with echo_server(folder, max_body_bytes=LIMIT) as echo:
            reference, port = await reference_server(echo)
            try:
                return await over(echo.port, exchange), await over(port, exchange)
            finally:
                await reference.stop(0)

    return asyncio.run(main())


async def over(port: int, exchange: Exchange) -> Outcome:
    address = f"127.0.0.1:{port}"
    async with grpc.aio.insecure_channel(address, options=OPTIONS) as aio:
        with grpc.insecure_channel(address, options=OPTIONS) as threaded:
            return await exchange(Client(aio, threaded))


async def unary(client: Client, data: bytes, path: str = UNARY, **options: Any) -> Outcome:
    return await called(client.aio, data, path, **options)


async def called(channel: grpc.aio.Channel, data: bytes, path: str = UNARY, **options: Any) -> Outcome:
    try:
        response = await channel.unary_unary(path)(data, **{"timeout": 30, **options})
    except grpc.aio.AioRpcError as error:
        return Outcome(error.code().name, error.details() or "", [])
    return Outcome("OK", "", [response])


async def streamed(client: Client, datas: list[bytes], **options: Any) -> Outcome:
    def stream() -> Outcome:
        responses: list[bytes] = []
        try:
            for each in client.threaded.stream_stream(STREAM)(iter(datas), **{"timeout": 30, **options}):
                responses.append(each)
        except grpc.RpcError as error:
            # The client's own deadline may end the stream before the server's response comes, in words of its own.
            own = "Stream removed (Deadline Exceeded)"
            return Outcome(error.code().name, (error.details() or "").replace(own, "Deadline Exceeded"), responses)
        return Outcome("OK", "", responses)

    return await asyncio.to_thread(stream)


def encoded(**fields: Any) -> bytes:
    data: bytes = Message(**fields).SerializeToString()
    return data


LARGE = encoded(raw_input_contents=[bytes(range(256)) * (3 * MIB // 256)])
EXCHANGES: dict[str, Exchange] = {
    "an empty message": lambda client: unary(client, b""),
    "a message": lambda client: unary(client, encoded(id="a")),
    "without a deadline": lambda client: unary(client, encoded(id="a"), timeout=None),
    "a large message": lambda client: unary(client, LARGE),
    "a compressed message": lambda client: unary(client, encoded(id="a" * 5000), compression=grpc.Compression.Gzip),
    "a deflated message": lambda client: unary(client, encoded(id="a" * 5000), compression=grpc.Compression.Deflate),
    "much metadata": lambda client: unary(client, b"", metadata=[("k" + str(n), "v" * 90) for n in range(60)]),
    "binary metadata": lambda client: unary(client, b"", metadata=[("key-bin", bytes(range(256)))]),
    "an error with an odd text": lambda client: unary(client, encoded(id="bad")),
    "a wait that is longer than the deadline": lambda client: unary(client, encoded(id="wait"), timeout=0.1),
    "a stream": lambda client: streamed(client, [encoded(id=str(n)) for n in range(300)]),
    "a stream of large messages": lambda client: streamed(client, [LARGE] * 4),
    "a compressed stream": lambda client: streamed(
        client, [encoded(id=str(n) * 1000) for n in range(30)], compression=grpc.Compression.Gzip),
    "an empty stream": lambda client: streamed(client, []),
    "a stream with an error": lambda client: streamed(client, [encoded(id="a"), encoded(id="bad"), encoded(id="b")]),
    "a stream that waits": lambda client: streamed(client, [encoded(id="a"), encoded(id="wait")], timeout=0.3),
}  # fmt: skip


@pytest.mark.parametrize("what", EXCHANGES)
def test_both_servers_give_the_same_answer(folder: Path, what: str) -> None:
    ours, reference = both(folder, EXCHANGES[what])
    assert ours == reference


OWN_WORDS: dict[str, Exchange] = {
    "an unknown method": lambda client: unary(client, b"", "/test.Echo/Nothing"),
    "an unknown service": lambda client: unary(client, b"", "/test.Nothing/Unary"),
    "a message that is too large": lambda client: unary(client, bytes(LIMIT + 1)),
    "a stream's message that is too large": lambda client: streamed(client, [b"", bytes(LIMIT + 1)]),
    "too much after decompression": lambda client: unary(
        client, encoded(raw_input_contents=[bytes(LIMIT)]), compression=grpc.Compression.Gzip),
}  # fmt: skip


@pytest.mark.parametrize("what", OWN_WORDS)
def test_both_servers_give_the_same_status_and_ours_says_more(folder: Path, what: str) -> None:
    ours, reference = both(folder, OWN_WORDS[what])
    assert (ours.code, ours.responses) == (reference.code, reference.responses)
    assert ours.details


def test_many_calls_at_once_get_their_own_answers(folder: Path) -> None:
    """grpcio's server can't be compared: it cancels calls at random when 1,000 wait."""

    async def main() -> None:
        ids = [str(n) * (1 + 40 * (n % 50)) for n in range(1500)]
        async with (
            echo_server(folder) as echo,
            grpc.aio.insecure_channel(f"127.0.0.1:{echo.port}", options=OPTIONS) as channel,
        ):
            outcomes = await asyncio.gather(*(called(channel, encoded(id=each), timeout=60) for each in ids))
        assert [each.responses for each in outcomes] == [[encoded(id=each)] for each in ids]

    asyncio.run(main())


def test_calls_are_cancelled(folder: Path) -> None:
    async def main() -> None:
        async with (
            echo_server(folder) as echo,
            grpc.aio.insecure_channel(f"127.0.0.1:{echo.port}", options=OPTIONS) as channel,
        ):
            call = channel.unary_unary(UNARY)(encoded(id="wait"), timeout=30)
            sending = asyncio.ensure_future(call)
            await echo.waiting.wait()
            call.cancel()
            await asyncio.wait_for(echo.cancelled.wait(), 20)
            with pytest.raises(asyncio.CancelledError):
                await sending

    asyncio.run(main())
