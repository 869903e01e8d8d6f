"""Between the main process of a node and its web processes."""

from __future__ import annotations

from tfserve.ipc.messages.base import Message, Request


class HeadState(Message):
    """Where the head is. `url` is empty before the first connection to it; `is_connected` is false while it is away.

    `is_left`: this node is about to stop, so no more requests should be sent to it.
    """

    url: str
    is_connected: bool
    is_left: bool = False


class GetHead(Request[HeadState]):
    """Sent by a web process that starts; from then on it receives `HeadChanged`."""


class HeadChanged(Request[None]):
    head: HeadState
