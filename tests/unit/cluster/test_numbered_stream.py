"""Messages over connections that break: each arrives once, in order."""

from __future__ import annotations

import asyncio
import itertools
import socket

from tfserve.cluster import numbered_stream
from tfserve.cluster.numbered_stream import NumberedStream
from tfserve.ipc.connections import Connection
from tfserve.ipc.messages import Message, WorkerOutput


class Ends:
    """Two ends, and what each has delivered."""

    def __init__(self) -> None:
        self.got: tuple[list[bytes], list[bytes]] = [], []
        self.streams = [NumberedStream(self._deliver(0)), NumberedStream(self._deliver(1))]
        self.connections: list[Connection] = []
        self._changed = asyncio.Event()

    async def connect(self) -> None:
        """A new connection, on which both continue."""
        pair = socket.socketpair()
        self.connections = [
            await Connection.open(sock, self._receiver(stream)) for sock, stream in zip(pair, self.streams, strict=True)
        ]
        one, other = self.streams
        confirmed = other.received, one.received
        for stream, connection, number in zip(self.streams, self.connections, confirmed, strict=True):
            stream.resume(connection, number)

    async def cut(self) -> None:
        """Breaks the connection with whatever is on its way."""
        for connection in self.connections:
            connection.abort()
        await asyncio.gather(*(connection.lost for connection in self.connections))
        for stream in self.streams:
            stream.pause()

    async def until(self, count: int) -> None:
        while any(len(got) < count for got in self.got):
            self._changed.clear()
            await self._changed.wait()

    def send(self, number: int) -> None:
        for stream in self.streams:
            stream.send(WorkerOutput(stream=1, data=b"%d" % number))

    def _deliver(self, end: int) -> object:
        def deliver(message: Message) -> None:
            assert isinstance(message, WorkerOutput)
            self.got[end].append(message.data)
            self._changed.set()

        return deliver

    @staticmethod
    def _receiver(stream: NumberedStream) -> object:
        async def received(message: Message) -> None:
            stream.take(message)

        return received


def numbers(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


async def test_what_is_sent_while_there_is_no_connection_arrives_over_the_next() -> None:
    ends = Ends()
    for number in range(3):
        ends.send(number)
    await ends.connect()
    await ends.until(3)
    assert ends.got == (numbers(3), numbers(3))
    await ends.cut()


async def test_nothing_is_lost_or_repeated_when_connections_break_at_any_moment() -> None:
    ends, sent = Ends(), itertools.count()
    for turns in range(12):
        await ends.connect()
        for _ in range(5):
            ends.send(next(sent))
        for _ in range(turns):  # breaks after more or less has arrived
            await asyncio.sleep(0)
        await ends.cut()
    await ends.connect()
    await ends.until(60)
    assert ends.got == (numbers(60), numbers(60))
    await ends.cut()


async def test_an_end_says_when_the_other_one_is_too_slow() -> None:
    ends = Ends()
    stream, rooms = ends.streams[0], asyncio.Event()
    stream.on_room = rooms.set
    stream.send(WorkerOutput(stream=1, data=bytes(numbered_stream.WINDOW_BYTES)))
    assert not stream.has_room
    await ends.connect()
    await rooms.wait()
    assert stream.has_room
    await ends.cut()
