"""A head and a node in one process, with a connection for the files of one worker that a test can break."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from tfserve.config import Settings
from tfserve.ipc.connections import Connection, ConnectionLost, Handler
from tfserve.ipc.messages import Message
from tfserve.node.files import NodeFiles
from tfserve.supervisor.cluster.carriers import Carrier
from tfserve.supervisor.cluster.files import HeadFiles, WorkerFiles

WORKER = "w1"


class Machines:
    """`folder/head` is the head's data, `folder/node` the node's."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.data = folder / "head"
        self.data.mkdir(exist_ok=True)
        self.head = HeadFiles(Settings(data_dir=str(self.data), roots=str(folder), **settings), os.umask(0o022))
        os.umask(0o022)
        self.node = NodeFiles(folder / "node", 2**30, "n1")
        self.connections: list[Connection] = []
        self._all: list[Connection] = []
        self._serving = asyncio.create_task(self.node.serve(self._open))

    @property
    def files(self) -> WorkerFiles:
        return self.head.of(WORKER)

    def carrier(self) -> Carrier:
        return Carrier(self.files)

    def break_connection(self) -> None:
        for each in self.connections:
            each.close()
        self.connections.clear()

    async def close(self) -> None:
        self.head.close()
        await self.node.close()
        await self._serving
        for each in self._all:
            each.close()
            await each.lost

    async def restart_node(self) -> None:
        """Another worker starts on another node."""
        await self.node.close()
        await self._serving
        self.head.closed(WORKER)
        self.node = NodeFiles(self.folder / "other node", 2**30, "n2")
        self._serving = asyncio.create_task(self.node.serve(self._open))

    async def _open(self, handler: Handler) -> Connection:
        ours, theirs = socket.socketpair()
        then: list[Handler] = []

        async def handle(message: Message) -> Any:
            return await then[0](message)

        connection = await Connection.open(ours, handle)
        then.append(self.head.of(WORKER).attach(connection))
        self.connections.append(connection)
        self._all.append(connection)
        self._all.append(await Connection.open(theirs, handler))
        return self._all[-1]


@contextlib.asynccontextmanager
async def machines(folder: Path, **settings: Any) -> AsyncIterator[Machines]:
    opened = Machines(folder, **settings)
    try:
        yield opened
    finally:
        await opened.close()


async def gone(_: object) -> Any:
    """A worker that dies."""
    raise ConnectionLost


async def until(condition: Callable[[], bool]) -> None:
    """Returns when the condition holds; the time limit of the test is that of the wait."""
    while not condition():  # noqa: ASYNC110 - of files, which have no event of ours
        await asyncio.sleep(0.005)


def written(file: Path, content: bytes = b"x") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def names(folder: Path) -> set[str]:
    return {str(each.relative_to(folder)) for each in folder.rglob("*") if each.is_file()}
