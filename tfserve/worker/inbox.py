"""What a worker is told, in order, through one queue. Only an interrupt overtakes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from queue import SimpleQueue

from tfserve.ipc.connections import BlockingConnection
from tfserve.ipc.messages import READING, Interrupt, Message, ReadVariables, RunScript, Stop, Train
from tfserve.worker import linux
from tfserve.worker.interrupts import Interrupts

log = logging.getLogger(__name__)


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
            request_id, message = self._next()
            if isinstance(message, Stop):
                return
            yield request_id, message

    def _next(self) -> tuple[int, Message]:
        while True:
            try:
                return self._queue.get()
            except (Exception, KeyboardInterrupt):
                # An alarm that a script has set, say, goes off after its end. SystemExit is meant to end the process.
                log.warning("a signal handler of an earlier script raised an exception", exc_info=True)

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
        elif isinstance(message, Train):
            self._interrupts.expect(("", message.job))
        elif isinstance(message, ReadVariables):
            self._interrupts.expect((message.workspace, READING))
        self._queue.put((request_id, message))
