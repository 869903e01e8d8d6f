"""The main process of a node between the head and its web processes: three ends of real connections."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tfserve.errors import Unavailable
from tfserve.ipc.connections import Connection
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
    ModelVersion,
    ReadCounters,
    ReadInFlight,
    TokenRule,
    WakeModel,
)
from tfserve.ipc.metrics import ModelCounts, WebCounts
from tfserve.node.relay import Relay

URL = "https://10.0.0.1:7701"
ACTIVE = ModelVersion(id=7, version=1, state="active", addresses=["tls://10.0.0.3:4000/n1/a"])
RULES = AccessRules(is_required=True, tokens=[])


async def pair(ours: Callable[[Message], Awaitable[Any]], theirs: Callable[[Message], Awaitable[Any]]) -> Any:
    """The two ends of a connection."""
    one, other = socket.socketpair()
    return await Connection.open(one, ours), await Connection.open(other, theirs)


class Parts:
    """A head, a node's relay and a web process, and what the latter has received."""

    def __init__(self) -> None:
        self.relay = Relay(drain_s=5)
        self.rules = RULES
        #: what the head announces while the node asks for its models
        self.change: Message | None = None
        self.models: dict[str, list[ModelVersion]] = {"m": [ACTIVE]}
        self.woken: list[str] = []
        self.received: list[Message] = []
        self.counts = WebCounts()

    async def connect_head(self) -> None:
        self.head, line = await pair(self._of_head, self.relay.handle)
        await self.relay.connected(line, URL, may_be_open=False)

    async def connect_web(self) -> None:
        """As a web process starts: it asks for the rules, the models and the head."""
        self.web, self._to_web = await pair(self._of_web, self._for_web)
        assert (await self.web.ask(GetAccessRules())).is_required
        assert (await self.web.ask(GetModels())).models == self.models
        assert await self.web.ask(GetHead()) == HeadState(url=URL, is_connected=True)

    async def close(self) -> None:
        for each in (self.head, self.web):
            each.close()
            await each.lost

    async def _of_head(self, message: Message) -> Any:
        match message:
            case GetAccessRules():
                return self.rules
            case GetModels():
                if self.change is not None:
                    await self.head.ask(self.change)
                return Models(models=self.models)
            case WakeModel():
                self.woken.append(message.workspace)
        return None

    async def _for_web(self, message: Message) -> Any:
        service = await self.relay.service
        subscribe = service.subscriptions.get(type(message))
        return subscribe(self._to_web) if subscribe is not None else await service.handle(message)

    async def _of_web(self, message: Message) -> Any:
        if isinstance(message, ReadCounters):
            return self.counts
        if isinstance(message, ReadInFlight):
            return {id_: counts.in_flight for id_, counts in self.counts.models.items() if id_ in message.deployments}
        self.received.append(message)
        return None


@asynccontextmanager
async def running() -> AsyncIterator[Parts]:
    parts = Parts()
    await parts.connect_head()
    await parts.connect_web()
    yield parts
    await parts.close()


def test_changes_are_acknowledged_when_the_web_process_has_them() -> None:
    async def changes() -> None:
        async with running() as parts:
            sent = [
                ModelChanged(workspace="m", versions=[]),
                DrainModel(workspace="m", id=7, addresses=ACTIVE.addresses),
                AccessChanged(rules=RULES),
            ]
            for number, message in enumerate(sent, 1):
                await parts.head.ask(message)
                assert parts.received[:number] == sent[:number]

    asyncio.run(changes())


def test_a_token_that_is_revoked_while_the_node_connects_stays_revoked() -> None:
    revoked = AccessRules(is_required=True, tokens=[])

    async def connects() -> None:
        async with running() as parts:
            token = TokenRule(id=1, name="ci", scopes=["admin"], workspaces=None, digests=[])
            parts.rules = AccessRules(is_required=True, tokens=[token])
            parts.change = AccessChanged(rules=revoked)
            parts.head.close()
            await parts.head.lost
            await parts.connect_head()
            assert await parts.web.ask(GetAccessRules()) == revoked
            assert [each for each in parts.received if isinstance(each, AccessChanged)][-1].rules == revoked

    asyncio.run(connects())


def test_what_the_web_process_asks_reaches_the_head_unless_it_is_away() -> None:
    async def asks() -> None:
        async with running() as parts:
            await parts.web.ask(WakeModel(workspace="m"))
            assert parts.woken == ["m"]
            await parts.relay.disconnected()
            assert parts.received == [HeadChanged(head=HeadState(url=URL, is_connected=False))]
            with pytest.raises(Unavailable, match="head of the cluster"):
                await parts.web.ask(WakeModel(workspace="m"))

    asyncio.run(asks())


def test_a_head_that_comes_back_announces_only_differences() -> None:
    async def back() -> None:
        async with running() as parts:
            await parts.relay.disconnected()
            parts.head.close()
            await parts.head.lost
            new = ModelVersion(id=8, version=1, state="active", addresses=["tls://10.0.0.4:4000/n2/b"])
            parts.models = {"m": [ModelVersion(id=7, version=1, state="loading")], "new": [new]}
            parts.received.clear()
            await parts.connect_head()
            assert parts.received == [
                AccessChanged(rules=RULES),
                ModelChanged(workspace="new", versions=[new]),
                HeadChanged(head=HeadState(url=URL, is_connected=True)),
            ]
            await parts.head.ask(ModelChanged(workspace="m", versions=[new]))
            assert parts.received[-1] == ModelChanged(workspace="m", versions=[new])

    asyncio.run(back())


def test_predictions_are_counted_once_when_the_line_is_opened_again() -> None:
    async def counted() -> list[tuple[int, int]]:
        async with running() as parts:

            async def read(rows: int, in_flight: int) -> tuple[int, int]:
                parts.counts = WebCounts({7: ModelCounts(rows=rows, in_flight=in_flight)}, {"v1": {"400": rows}})
                told = await parts.head.ask(ReadCounters())
                assert told.http_errors == {"v1": {"400": told.models[7].rows}}
                return told.models[7].rows, told.models[7].in_flight

            first = [await read(10, 3), await read(15, 2)]
            parts.head.close()
            await parts.head.lost
            await parts.connect_head()
            return [*first, await read(15, 2), await read(19, 0)]

    assert asyncio.run(counted()) == [(10, 3), (15, 2), (0, 2), (4, 0)]


def test_what_its_web_processes_wait_for_counts_for_the_autoscaling_of_the_head() -> None:
    async def in_flight() -> dict[int, int]:
        async with running() as parts:
            parts.counts = WebCounts({7: ModelCounts(in_flight=3), 9: ModelCounts(in_flight=1)})
            return await parts.head.ask(ReadInFlight(deployments=[7, 8]))

    assert asyncio.run(in_flight()) == {7: 3, 8: 0}


def test_a_node_that_others_can_reach_needs_tokens() -> None:
    async def unprotected() -> None:
        parts = Parts()
        parts.rules = AccessRules(is_required=False, tokens=[])
        await parts.connect_head()
        assert parts.relay.is_unprotected
        assert not parts.relay.service.done()
        parts.head.close()
        await parts.head.lost

    asyncio.run(unprotected())
