"""A closed-loop gRPC client: so many calls in flight, spread over a few connections. Cheap, since it shares the cores.

`python -m benchmarks.grpc_load ADDRESS --calls 32 --seconds 8 < REQUEST` sends one ModelInfer again and again, in a
process of its own, and prints JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Iterator
from typing import Protocol

import grpc

from benchmarks.http_load import Result

INFER = "/inference.GRPCInferenceService/ModelInfer"
CALLS_OF_A_CONNECTION = 16


class Call(Protocol):
    """A serialized request, and what is expected of its answer."""

    body: bytes
    method: str

    def read(self, answer: bytes, /) -> None:
        """Raises ValueError with what was wrong."""
        ...


class Unread:
    """A request whose answers are not looked at."""

    def __init__(self, body: bytes, method: str = INFER) -> None:
        self.body = body
        self.method = method

    def read(self, answer: bytes) -> None:
        pass


def exchange(address: str, calls: Iterator[Call], *, at_a_time: int) -> Result:
    """Makes all calls, so many at a time, and tells what was seen."""
    result = Result()
    started_at = time.perf_counter()
    asyncio.run(_exchange(address, calls, at_a_time, result))
    result.took_s = time.perf_counter() - started_at
    return result


async def _exchange(address: str, calls: Iterator[Call], at_a_time: int, result: Result) -> None:
    count = -(-at_a_time // CALLS_OF_A_CONNECTION)
    # Without a pool of its own each channel would share the others' connection.
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(count)]
    clients = [Client(channel) for channel in channels]
    try:
        await asyncio.gather(*(_one_after_the_other(clients[n % count], calls, result) for n in range(at_a_time)))
    finally:
        for channel in channels:
            await channel.close()


class Client:
    """The methods of a connection, each made on first use."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self._methods: dict[str, grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]] = {}

    def method(self, name: str) -> grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]:
        if name not in self._methods:
            self._methods[name] = self._channel.unary_unary(name)
        return self._methods[name]


async def _one_after_the_other(client: Client, calls: Iterator[Call], result: Result) -> None:
    for call in calls:
        sent_at = time.perf_counter()
        try:
            answer: bytes = await client.method(call.method)(call.body)
            result.times.append(time.perf_counter() - sent_at)
            call.read(answer)
        except grpc.RpcError as error:
            result.failures.append(f"{error.code().name}: {error.details()}")
        except ValueError as error:
            result.failures.append(str(error))


def again_and_again(call: Call, seconds: float) -> Iterator[Call]:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        yield call


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address")
    parser.add_argument("--calls", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=8)
    options = parser.parse_args()
    call = Unread(sys.stdin.buffer.read())
    seen = exchange(options.address, again_and_again(call, options.seconds), at_a_time=options.calls)
    told = {"rate": seen.rate, "p50_ms": seen.p50_ms, "p99_ms": seen.p99_ms, "failures": seen.failures[:5]}
    print(json.dumps({**told, "failed": len(seen.failures)}))


if __name__ == "__main__":
    main()
