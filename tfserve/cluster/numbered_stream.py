"""Messages in order and exactly once, over one connection after another.

Each end numbers what it sends, keeps it until the other one confirms it, and sends it again over the next connection.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from tfserve.ipc import frames
from tfserve.ipc.connections import Connection
from tfserve.ipc.messages import Bridged, Message, Received

CONFIRM_S = 0.5
CONFIRM_BYTES = 1024 * 1024
"""Received messages are confirmed after this time, or when they have this size."""
WINDOW_BYTES = 16 * 1024 * 1024
"""An end that sends more than this without a confirmation should pause."""


class NumberedStream:
    """One end. `deliver` gets the messages of the other end, each once."""

    def __init__(self, deliver: Callable[[Message], None]) -> None:
        self.received = 0
        """The number of the last message of the other end."""
        self.on_room: Callable[[], None] | None = None
        """Called when the window has room again."""
        self._deliver = deliver
        self._sent = 0
        self._kept: deque[tuple[int, bytes]] = deque()
        self._kept_bytes = 0
        self._connection: Connection | None = None
        self._confirming: asyncio.TimerHandle | None = None
        self._unconfirmed_bytes = 0

    @property
    def has_room(self) -> bool:
        return self._kept_bytes < WINDOW_BYTES

    @property
    def is_waiting(self) -> bool:
        """Whether the other end has not confirmed everything."""
        return bool(self._kept)

    def restart(self) -> None:
        """The other end is a new one, to which numbers from before mean nothing."""
        self.pause()
        self._confirmed()
        self._kept.clear()
        self._sent = self.received = self._kept_bytes = 0

    def send(self, message: Message) -> None:
        """Sends it now, or over the next connection."""
        self._sent += 1
        body = frames.pack(message)
        self._kept.append((self._sent, body))
        self._kept_bytes += len(body)
        self._send(self._sent, body)

    def resume(self, connection: Connection, confirmed: int) -> None:
        """Continues over a new connection, whose other end has received all messages up to `confirmed`."""
        self._connection = connection
        self._drop(confirmed)
        for number, body in self._kept:
            self._send(number, body)

    def pause(self) -> None:
        """The connection is lost: what is sent from now on waits for the next one."""
        self._connection = None

    def take(self, message: Message) -> None:
        """Handles a message of the other end: `Bridged` or `Received`."""
        if isinstance(message, Received):
            self._drop(message.number)
        elif isinstance(message, Bridged):
            self._drop(message.received)
            if message.number == self.received + 1:
                self.received = message.number
                self._confirm_later(len(message.body))
                self._deliver(frames.decode(message.body))

    def _send(self, number: int, body: bytes) -> None:
        if self._connection is not None:
            self._confirmed()
            self._connection.notify(Bridged(number=number, received=self.received, body=body))

    def _drop(self, confirmed: int) -> None:
        had_room = self.has_room
        while self._kept and self._kept[0][0] <= confirmed:
            self._kept_bytes -= len(self._kept.popleft()[1])
        if not had_room and self.has_room and self.on_room is not None:
            self.on_room()

    def _confirm_later(self, size: int) -> None:
        self._unconfirmed_bytes += size
        if self._unconfirmed_bytes >= CONFIRM_BYTES:
            self._confirm()
        elif self._confirming is None:
            self._confirming = asyncio.get_running_loop().call_later(CONFIRM_S, self._confirm)

    def _confirm(self) -> None:
        self._confirmed()
        if self._connection is not None:
            self._connection.notify(Received(number=self.received))

    def _confirmed(self) -> None:
        self._unconfirmed_bytes = 0
        if self._confirming is not None:
            self._confirming.cancel()
            self._confirming = None
