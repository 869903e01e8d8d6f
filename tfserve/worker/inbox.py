"""What a worker is told, in order, through one queue. Only an interrupt overtakes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from queue import SimpleQueue

from tfserve.ipc.connections import BlockingConnection
from tfserve.ipc.messages import Interrupt, Message, ReadVariables, RunScript, Stop
from tfserve.worker import linux
from tfserve.worker.interrupts import Interrupts

READING = -1
"""Stands for a job number in an Interrupt that stops the reading of variables."""


class Inbox:
    """A thread receives; whoever iterates takes what is to be done, until `Stop`.

    When the supervisor is gone that thread ends the process and all that it started, whatever runs meanwhile.
    """

    def __init__(self, connection: BlockingConnection, interrupts: Interrupts) -> None:
        self._connection = connection
        self._interrupts = interrupts
        self._queue: SimpleQueue[tuple[int, Message]] = SimpleQueue()
        threading.Thread(target=self._receive, name="inbox", daemon=True).start()

    def __iter__(self) -> Iterator[tuple[int, Message]]:
        while True:
            request_id, message = self._queue.get()
            if isinstance(message, Stop):
                return
            yield request_id, message

    def _receive(self) -> None:
        try:
            for request_id, message in self._connection.receive():
                self._take(request_id, message)
        finally:
            linux.end_group()

    def _take(self, request_id: int, message: Message) -> None:
        if isinstance(message, Interrupt):
            self._interrupts.interrupt((message.workspace, message.job))
            return
        if isinstance(message, RunScript):
            self._interrupts.expect((message.workspace, message.job))
        elif isinstance(message, ReadVariables):
            self._interrupts.expect((message.workspace, READING))
        self._queue.put((request_id, message))
