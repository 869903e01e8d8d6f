"""Announces the deployed models to the web processes, and waits until they have taken over a change."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Iterator, Sequence

from tfserve.ipc.connections import Connection, ConnectionLost
from tfserve.ipc.messages import DrainModel, Message, ModelChanged, Models, ModelVersion, Request

log = logging.getLogger(__name__)

ANNOUNCE_S = 5.0
"""Maximum time to wait for the response of a web process, which may be stopped by a debugger."""


class Announcements:
    """The models by workspace, and the connections to the web processes."""

    def __init__(self) -> None:
        self._models: dict[str, list[ModelVersion]] = {}
        self._lines: set[Connection] = set()

    def everything(self, line: Connection) -> Message:
        """All models, for a web process that starts; from here on it receives every change."""
        self._lines.add(line)
        line.lost.add_done_callback(lambda _: self._lines.discard(line))
        return Models(models=self._models)

    @property
    def lines(self) -> list[Connection]:
        """The connections to the living web processes."""
        return list(self._lines)

    def versions(self) -> Iterator[tuple[str, ModelVersion]]:
        """Every version of every model, with the name of its workspace."""
        return ((name, version) for name, versions in self._models.items() for version in versions)

    async def announce(self, workspace: str, versions: Sequence[ModelVersion]) -> None:
        """Returns when all web processes have taken over the versions."""
        if versions:
            self._models[workspace] = list(versions)
        else:
            self._models.pop(workspace, None)
        await self._send_all(ModelChanged(workspace=workspace, versions=list(versions)), ANNOUNCE_S)

    async def drain(self, workspace: str, id_: int, addresses: Sequence[str], timeout_s: float) -> None:
        """Returns when no web process waits for these replicas, or after `timeout_s`."""
        await self._send_all(DrainModel(workspace=workspace, id=id_, addresses=list(addresses)), timeout_s)

    async def _send_all(self, message: Request[None], timeout_s: float) -> None:
        await send_to_all(self._lines, message, timeout_s)


async def send_to_all(lines: Iterable[Connection], message: Request[None], timeout_s: float) -> None:
    """Returns when every process has responded, or after `timeout_s`."""
    await asyncio.gather(*(_send(line, message, timeout_s) for line in list(lines)))


async def _send(line: Connection, message: Request[None], timeout_s: float) -> None:
    with contextlib.suppress(ConnectionLost):
        try:
            async with asyncio.timeout(timeout_s):
                await line.ask(message)
        except TimeoutError:
            log.warning("a web process did not respond to %s within %g s", type(message).__name__, timeout_s)
