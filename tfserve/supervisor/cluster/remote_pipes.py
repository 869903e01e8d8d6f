"""Pipes for the output of the workspaces of a host that runs on a node: its bridge makes and reads them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import AsyncIterator, Callable

from tfserve.ipc.messages import ClosePipes, Message, OpenPipes, PipesOpened
from tfserve.supervisor.processes.output import JobOutput, OfferedPipes

log = logging.getLogger(__name__)

FIRST_STREAM = 3
"""1 and 2 are the output of the process itself."""


class RemotePrinter:
    """The output of one workspace. It arrives before the frames that the host sends after it."""

    def __init__(self) -> None:
        self.output: JobOutput | None = None

    def drain(self) -> None:
        """Nothing waits here."""

    def printed(self, stream: int, data: bytes) -> None:
        if self.output is not None:
            self.output.write(stream, data)
        else:
            log.debug("printed between jobs: %s", data.decode(errors="replace").rstrip())


class RemotePipes:
    """All pipes of one host."""

    def __init__(self, send: Callable[[Message], None]) -> None:
        self._send = send
        self._numbers = itertools.count(FIRST_STREAM, 2)
        self._opened: dict[int, asyncio.Future[list[str]]] = {}
        self._printers: dict[int, RemotePrinter] = {}

    @contextlib.asynccontextmanager
    async def offer(self, ended: asyncio.Future[object]) -> AsyncIterator[OfferedPipes]:
        """Pipes that the host can open within the context. `ended` is set when it has ended, and nothing comes."""
        first = next(self._numbers)
        opened = self._opened[first] = asyncio.get_running_loop().create_future()
        self._printers[first] = RemotePrinter()
        self._send(OpenPipes(first=first))
        await asyncio.wait([opened, ended], return_when=asyncio.FIRST_COMPLETED)
        stdout, stderr = opened.result() if opened.done() else ("", "")
        try:
            yield OfferedPipes(self._printers[first], stdout, stderr)
        finally:
            self._send(ClosePipes(first=first))

    def opened(self, message: PipesOpened) -> None:
        if (opened := self._opened.pop(message.first, None)) is not None:
            opened.set_result(message.paths)

    def printed(self, stream: int, data: bytes) -> None:
        is_stderr = (stream - FIRST_STREAM) % 2
        if (printer := self._printers.get(stream - is_stderr)) is not None:
            printer.printed(1 + is_stderr, data)
