"""Queues the messages to a worker in order. Only those that end what runs overtake."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from queue import SimpleQueue

from tfserve.ipc.connections import BlockingConnection
from tfserve.ipc.messages import READING, FinishTraining, Interrupt, Message, ReadVariables, RunScript, Stop, Train
from tfserve.training import early_end
from tfserve.worker import process_group
from tfserve.worker.scripts.interrupts import Interrupts

log = logging.getLogger(__name__)


class Inbox:
    """A thread receives messages; iterating returns them, until `Stop`.

    When the supervisor is gone, that thread kills the process and everything it started, even in the middle of a job.
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
                # For example, an alarm of a script goes off after its end. SystemExit is meant to end the process.
                log.warning("a signal handler of an earlier script raised an exception", exc_info=True)

    def _receive(self) -> None:
        try:
            for request_id, message in self._connection.receive():
                self._take(request_id, message)
        finally:
            process_group.end_group()

    def _take(self, request_id: int, message: Message) -> None:
        if isinstance(message, Interrupt):
            self._interrupts.interrupt((message.workspace, message.job))
            return
        if isinstance(message, FinishTraining):
            early_end.request(message.job)
            return
        if isinstance(message, RunScript):
            self._interrupts.expect((message.workspace, message.job))
        elif isinstance(message, Train):
            self._interrupts.expect(("", message.job))
        elif isinstance(message, ReadVariables):
            self._interrupts.expect((message.workspace, READING))
        self._queue.put((request_id, message))
