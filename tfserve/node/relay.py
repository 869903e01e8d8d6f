"""Passes on messages between the head and the web processes of a node, and knows the models while the head is away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from tfserve.errors import Internal, Unavailable
from tfserve.ipc.connections import Connection, ConnectionLost
from tfserve.ipc.messages import (
    AccessChanged,
    AccessRules,
    DrainModel,
    GetAccessRules,
    GetHead,
    GetModels,
    HeadChanged,
    HeadState,
    Message,
    ModelChanged,
    Models,
    ReadCounters,
    ReadInFlight,
    Request,
)
from tfserve.ipc.metrics import WebCounts, since
from tfserve.node.announced import AnnouncedModels
from tfserve.supervisor.models.announcements import ANNOUNCE_S, send_to_all
from tfserve.supervisor.web_counters import Counts, in_flight
from tfserve.supervisor.web_processes import SupervisorService

log = logging.getLogger(__name__)


class HeadAway(Unavailable):
    """The head of the cluster can't be reached from this node. Try again later."""


class Relay:
    """`service` is set when the head has announced its models for the first time."""

    def __init__(self, *, drain_s: float, on_unprotected: Callable[[], None] = lambda: None) -> None:
        """`drain_s` is how long a prediction may take."""
        self._on_unprotected = on_unprotected
        self.service: asyncio.Future[SupervisorService] = asyncio.get_running_loop().create_future()
        self._drain_s = drain_s
        self._head: Connection | None = None
        self._is_left = False
        self._url = ""
        self._rules = AccessRules(is_required=True, tokens=[])
        self._may_be_open = False
        self._models = AnnouncedModels()
        self._lines: set[Connection] = set()
        self._counts = Counts()
        #: what was last reported to the head, and what had been reported before it was connected
        self._counted = self._former = WebCounts()

    # --- the head

    @property
    def is_unprotected(self) -> bool:
        """Whether clients would need no token, although that is not allowed."""
        return not self._may_be_open and not self._rules.is_required

    async def connected(self, head: Connection, url: str, *, may_be_open: bool) -> None:
        """Gets what the head knows. From here on the head sends every change.

        Web processes get nothing while the node `is_unprotected`.
        """
        self._former = _without_gauges(self._counted)
        # Nothing is awaited between a response and its use, so it can't replace a later change.
        try:
            self._rules = await head.ask(GetAccessRules())
            self._may_be_open = may_be_open
            models = (await head.ask(GetModels())).models
        except ConnectionLost:
            return
        self._head, self._url = head, url
        changed = list(self._models.begin(models))
        if self.is_unprotected:
            return
        await self._announce(AccessChanged(rules=self._rules))
        for name, versions in changed:
            await self._announce(ModelChanged(workspace=name, versions=versions))
        await self._announce(HeadChanged(head=self._state()))
        if not self.service.done():
            subscriptions: dict[type[Message], Callable[[Connection], Message]] = {
                GetModels: self._to_models,
                GetAccessRules: self._to_rules,
                GetHead: self._to_head,
            }
            self.service.set_result(SupervisorService(self._ask_head, subscriptions))

    async def leave(self) -> None:
        """From now on the node says that it is not ready. It answers as before."""
        self._is_left = True
        await self._announce(HeadChanged(head=self._state()))

    async def disconnected(self) -> None:
        self._head = None
        await self._announce(HeadChanged(head=self._state()))

    async def handle(self, message: Message) -> WebCounts | dict[int, int] | None:
        """Handles the messages of the head."""
        match message:
            case ModelChanged():
                if (versions := self._models.change(message.workspace, message.versions)) is not None:
                    await self._announce(ModelChanged(workspace=message.workspace, versions=versions))
            case DrainModel():
                await send_to_all(self._lines, message, self._drain_s)
            case AccessChanged():
                self._rules = message.rules
                if self.is_unprotected:
                    self._on_unprotected()
                    return None
                await self._announce(message)
            case ReadCounters():
                return await self._read_counters()
            case ReadInFlight():
                return await in_flight(self._lines, message)
            case _:
                raise Internal(f"a node does not handle {type(message).__name__}")
        return None

    async def _read_counters(self) -> WebCounts:
        """Since this head was connected: it has added what was reported over the connection before."""
        self._counted = await self._counts.read(list(self._lines), self._models.deployments)
        counted: WebCounts = since(self._counted, self._former)
        return counted

    # --- the web processes

    async def _announce(self, message: Request[None]) -> None:
        await send_to_all(self._lines, message, ANNOUNCE_S)

    async def _ask_head(self, message: Message) -> Any:
        if self._head is None:
            raise HeadAway
        try:
            return await self._head.ask(message)  # type: ignore[arg-type]  # web sends nothing else to a supervisor
        except ConnectionLost:
            raise HeadAway from None

    def _to_models(self, line: Connection) -> Message:
        self._subscribe(line)
        return Models(models=self._models.models)

    def _to_rules(self, line: Connection) -> Message:
        self._subscribe(line)
        return self._rules

    def _to_head(self, line: Connection) -> Message:
        self._subscribe(line)
        return self._state()

    def _subscribe(self, line: Connection) -> None:
        if line not in self._lines:
            self._lines.add(line)
            line.lost.add_done_callback(lambda _: self._lines.discard(line))

    def _state(self) -> HeadState:
        return HeadState(url=self._url, is_connected=self._head is not None, is_left=self._is_left)


def _without_gauges(counts: WebCounts) -> WebCounts:
    for model in counts.models.values():
        model.in_flight = 0
    return counts
