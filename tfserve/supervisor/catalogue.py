"""What web knows of the deployed models: told at once, and waited for where the next step needs it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator, Sequence

from tfserve.ipc.connections import Connection, ConnectionLost
from tfserve.ipc.messages import DrainModel, Message, ModelChanged, Models, ModelVersion

log = logging.getLogger(__name__)

TELL_S = 5.0
"""A web process that does not answer for so long is not waited for: it may be stopped by a debugger."""


class Catalogue:
    """The models by workspace, and the web processes that are to know of them."""

    def __init__(self) -> None:
        self._models: dict[str, list[ModelVersion]] = {}
        self._lines: set[Connection] = set()

    def everything(self, line: Connection) -> Message:
        """All models, for a web process that begins; it is told of every change from here on."""
        self._lines.add(line)
        line.lost.add_done_callback(lambda _: self._lines.discard(line))
        return Models(models=self._models)

    @property
    def lines(self) -> list[Connection]:
        """The lines to the living web processes."""
        return list(self._lines)

    def versions(self) -> Iterator[tuple[str, ModelVersion]]:
        """Every version of every model, with the name of its workspace."""
        return ((name, version) for name, versions in self._models.items() for version in versions)

    async def tell(self, workspace: str, versions: Sequence[ModelVersion]) -> None:
        """Returns when all web processes go by it."""
        if versions:
            self._models[workspace] = list(versions)
        else:
            self._models.pop(workspace, None)
        await self._ask_all(ModelChanged(workspace=workspace, versions=list(versions)), TELL_S)

    async def drain(self, workspace: str, id_: int, addresses: Sequence[str], timeout_s: float) -> None:
        """Returns when web waits for nothing more from these replicas, or after `timeout_s`."""
        await self._ask_all(DrainModel(workspace=workspace, id=id_, addresses=list(addresses)), timeout_s)

    async def _ask_all(self, message: Message, timeout_s: float) -> None:
        await asyncio.gather(*(_answered(line, message, timeout_s) for line in list(self._lines)))


async def _answered(line: Connection, message: Message, timeout_s: float) -> None:
    with contextlib.suppress(ConnectionLost):
        try:
            async with asyncio.timeout(timeout_s):
                await line.ask(message)
        except TimeoutError:
            log.warning("a web process has not answered %s within %g s", type(message).__name__, timeout_s)
