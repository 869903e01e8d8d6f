"""Group commit: everything that happened while the last commit was under way goes into the next one.

One thread owns the database connection that writes. Whoever writes awaits the commit; when it returns, what was
written is on the disk.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from django.db import Error as DatabaseError
from django.db import OperationalError, connection, transaction

from tfserve.control import records
from tfserve.errors import Internal, OutOfSpace, TFserveError

log = logging.getLogger(__name__)

MAX_GROUP = 1000
#: seconds after a refused write in which the server does not call itself ready
TROUBLE_S = 10.0
DISK_TROUBLE = ("full", "readonly", "read-only", "disk i/o", "unable to open", "no space")

T = TypeVar("T")


@dataclass(eq=False)
class _Entry:
    what: records.Submission | records.Turn | Callable[[], Any]
    committed: asyncio.Future[Any]


class Journal:
    """The one writer. Use it from one event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._refused_at = -TROUBLE_S
        self._entries: queue.SimpleQueue[_Entry | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    async def submit(self, submission: records.Submission) -> records.Recorded:
        recorded: records.Recorded = await self._write(submission)
        return recorded

    async def take_turn(self, turn: records.Turn) -> None:
        await self._write(turn)

    async def change(self, write: Callable[[], T]) -> T:
        """Runs any other write inside the next transaction and returns what it returns."""
        result: T = await self._write(write)
        return result

    @property
    def in_trouble(self) -> bool:
        """Whether the disk could not be written to a moment ago."""
        return time.monotonic() - self._refused_at < TROUBLE_S

    async def close(self) -> None:
        """Returns when all that was asked for is written."""
        self._entries.put(None)
        await asyncio.to_thread(self._thread.join)

    def _write(self, what: records.Submission | records.Turn | Callable[[], Any]) -> asyncio.Future[Any]:
        entry = _Entry(what, self._loop.create_future())
        self._entries.put(entry)
        return entry.committed

    # --- in the thread

    def _run(self) -> None:
        while group := self._next_group():
            self._commit(group)
        connection.close()

    def _next_group(self) -> list[_Entry]:
        first = self._entries.get()
        group = [first]
        while len(group) < MAX_GROUP and first is not None:
            try:
                group.append(self._entries.get_nowait())
            except queue.Empty:
                break
        if None in group and len(group) > 1:
            self._entries.put(None)  # seen again once the group before it is written
        return [entry for entry in group if entry is not None]

    def _commit(self, group: list[_Entry]) -> None:
        try:
            with transaction.atomic():
                results = _apply(group)
        except Exception as error:
            if len(group) > 1:  # one of them spoils it for the others: each on its own
                for entry in group:
                    self._commit([entry])
            else:
                told = _translate(error)
                if isinstance(told, OutOfSpace):
                    self._refused_at = time.monotonic()
                self._loop.call_soon_threadsafe(_settle, group, [told])
        else:
            self._loop.call_soon_threadsafe(_settle, group, results)


def _apply(group: list[_Entry]) -> list[Any]:
    """What was asked for, by kind: workspaces first, since jobs need them; a turn follows its submission anyway."""
    results: dict[_Entry, Any] = {}
    for entry in group:
        if callable(entry.what):
            results[entry] = entry.what()
    submissions = [(entry, entry.what) for entry in group if isinstance(entry.what, records.Submission)]
    if submissions:
        recorded = records.submit([submission for _, submission in submissions])
        results.update(zip((entry for entry, _ in submissions), recorded, strict=True))
    turns = [entry.what for entry in group if isinstance(entry.what, records.Turn)]
    if turns:
        records.take_turns(turns)
    return [results.get(entry) for entry in group]


def _settle(group: list[_Entry], results: Sequence[Any]) -> None:
    for entry, result in zip(group, results, strict=True):
        if entry.committed.done():
            continue
        if isinstance(result, Exception):
            entry.committed.set_exception(result)
        else:
            entry.committed.set_result(result)


def _translate(error: Exception) -> Exception:
    if isinstance(error, TFserveError):
        return error
    text = str(error).lower()
    if isinstance(error, OperationalError) and any(words in text for words in DISK_TROUBLE):
        return OutOfSpace(cause=str(error))
    log.error("a write to the database failed", exc_info=error)
    if isinstance(error, DatabaseError):
        connection.close()  # a broken connection to PostgreSQL is opened again by the next write
    return Internal()
