"""Group commit: everything that is submitted during a commit goes into the next one.

One thread owns the database connection that writes. A write returns when it is on the disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from django.db import Error as DatabaseError
from django.db import connection, transaction

from tfserve.db import writes
from tfserve.db.database import Database, DatabaseTaken, cause_of, is_outage
from tfserve.errors import Conflict, DatabaseUnavailable, Internal, OutOfSpace, Overloaded, TFserveError, Unavailable

log = logging.getLogger(__name__)

MAX_GROUP = 1000
#: seconds after a refused write in which the server does not call itself ready
TROUBLE_S = 10.0
#: maximum seconds of a check of the database, and seconds that its result is valid
PROBE_S, PROBED_S = 2.0, 0.5
WATCH_S = 1.0
RECORD_AGAIN_S = 1.0
DISK_TROUBLE = ("full", "readonly", "read-only", "disk i/o", "unable to open", "no space")

T = TypeVar("T")


class NotRecorded(Unavailable):
    """{what} could not be recorded before the server stopped: {cause}"""


@dataclass(eq=False)
class _Entry:
    what: writes.Submission | writes.QueueStep | Callable[[], Any]
    committed: asyncio.Future[Any]


class Journal:
    """The one writer. Use it from one event loop."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._loop = asyncio.get_running_loop()
        self._refused_at = -TROUBLE_S
        self._probed_at = -PROBED_S
        #: why the database can't be used; None when it can
        self._trouble: DatabaseUnavailable | None = None
        self._give_up_at = math.inf
        #: called once when another server has taken the database: this one never writes again
        self.on_taken: Callable[[], object] = lambda: None
        #: called with the id of each job whose end is on the disk
        self.on_ended: Callable[[int], object] = lambda _: None
        self._entries: queue.SimpleQueue[_Entry | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    async def submit(self, submission: writes.Submission) -> writes.Recorded:
        recorded: writes.Recorded = await self._write(submission)
        return recorded

    async def record_step(self, step: writes.QueueStep) -> None:
        await self._write(step)
        self._report_ends(step)

    async def change(self, write: Callable[[], T]) -> T:
        """Runs any other write inside the next transaction and returns what it returns."""
        result: T = await self._write(write)
        return result

    async def insist(self, write: writes.QueueStep | Callable[[], T], what: str) -> T:
        """Retries until the database accepts the write; nothing can continue before that. `what` is for the log.

        Raises `NotRecorded` once the server is to stop and has waited for as long as `give_up_after` says.
        """
        is_reported = False
        while True:
            try:
                result: T = await self._write(write)
            except TFserveError as error:
                left_s = self._give_up_at - time.monotonic()
                if left_s <= 0:
                    log.error("%s could not be recorded before the server stopped: %s", what, error)
                    raise NotRecorded(what=what, cause=error.message) from error
                if not is_reported:
                    log.error("%s waits until it can be recorded: %s", what, error)
                is_reported = True
                await asyncio.sleep(min(RECORD_AGAIN_S, left_s))
            else:
                self._report_ends(write)
                return result

    async def check(self, refuse: Callable[[], object]) -> None:
        """Calls `refuse`, which raises when a limit is reached.

        It is called a second time before it counts: a caller may have read in the database that a job has ended while
        this program is still about to learn that the end was written.
        """
        try:
            refuse()
        except (Conflict, Overloaded):
            if self._trouble is not None:  # nothing can have been written just now
                raise
            with contextlib.suppress(TFserveError):
                await self._write(_nothing)  # all writes before this one are known then
                await self._next_turn()  # and so are their consequences
            refuse()

    async def _next_turn(self) -> None:
        turn = self._loop.create_future()
        self._loop.call_soon(turn.set_result, None)
        await turn

    def give_up_after(self, seconds: float) -> None:
        """Called when the server is to stop: what can't be recorded is then kept no longer than this."""
        self._give_up_at = time.monotonic() + seconds

    async def is_ready(self) -> bool:
        """Whether the database can be written, as far as is known without writing."""
        if time.monotonic() - self._probed_at > PROBED_S:
            self._probed_at = time.monotonic()
            try:
                async with asyncio.timeout(PROBE_S):
                    await self._write(self._database.probe)
            except TimeoutError:
                return False
            except TFserveError:
                pass  # it is in `_trouble`
        return self._trouble is None and time.monotonic() - self._refused_at >= TROUBLE_S

    async def watch(self) -> None:
        """Asks the database every second whether it still belongs to this server. Ends when it does not."""
        while not isinstance(self._trouble, DatabaseTaken):
            with contextlib.suppress(TFserveError):  # it is in `_trouble`
                await self._write(self._database.probe)
            await asyncio.sleep(WATCH_S)

    @property
    def trouble(self) -> str | None:
        """Why nothing can be written at the moment; None if it can, as far as is known."""
        return None if self._trouble is None else self._trouble.message

    async def close(self) -> None:
        """Returns when everything is written."""
        self._entries.put(None)
        await asyncio.to_thread(self._thread.join)

    def _report_ends(self, write: object) -> None:
        if isinstance(write, writes.QueueStep):
            for each in write.ended:
                self.on_ended(each.job_id)

    def _write(self, what: writes.Submission | writes.QueueStep | Callable[[], Any]) -> asyncio.Future[Any]:
        entry = _Entry(what, self._loop.create_future())
        self._entries.put(entry)
        return entry.committed

    # --- in the thread

    def _run(self) -> None:
        self._database.adopt()
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
            results = self._write_all(group)
        except Exception as error:
            cause = _translate(error)
            self._note(cause)
            if len(group) > 1 and not isinstance(cause, DatabaseUnavailable):
                for entry in group:  # one of them spoils it for the others: each on its own
                    self._commit([entry])
            else:
                self._loop.call_soon_threadsafe(_settle, group, [cause] * len(group))
        else:
            if self._trouble is not None:
                log.warning("the database can be used again")
                self._trouble = None
            self._loop.call_soon_threadsafe(_settle, group, results)

    def _write_all(self, group: list[_Entry], *, is_second: bool = False) -> list[Any]:
        """Writes a group in one transaction. A connection that broke before the commit is opened again, once."""
        is_applied = False
        try:
            self._database.before_write()
            with transaction.atomic():
                results = _apply(group)
                is_applied = True
        except DatabaseError as error:
            if is_applied or is_second or connection.vendor == "sqlite" or not is_outage(error):
                raise
            connection.close()
            return self._write_all(group, is_second=True)
        self._database.after_write()
        return results

    def _note(self, cause: Exception) -> None:
        """One line in the log for as long as the database can't be used."""
        if isinstance(cause, OutOfSpace):
            self._refused_at = time.monotonic()
        if isinstance(cause, DatabaseUnavailable):
            if self._trouble is None or type(self._trouble) is not type(cause):
                log.error("%s", cause.message)
                if isinstance(cause, DatabaseTaken):
                    self._loop.call_soon_threadsafe(self.on_taken)
            self._trouble = cause


def _nothing() -> None:
    """A write that only has its turn."""


def _apply(group: list[_Entry]) -> list[Any]:
    """Writes workspaces first, since jobs need them, then new jobs, then steps of queues."""
    results: dict[_Entry, Any] = {}
    for entry in group:
        if callable(entry.what):
            results[entry] = entry.what()
    submissions = [(entry, entry.what) for entry in group if isinstance(entry.what, writes.Submission)]
    if submissions:
        recorded = writes.submit([submission for _, submission in submissions])
        results.update(zip((entry for entry, _ in submissions), recorded, strict=True))
    steps = [entry.what for entry in group if isinstance(entry.what, writes.QueueStep)]
    if steps:
        writes.record_steps(steps)
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
    if isinstance(error, DatabaseError) and any(words in text for words in DISK_TROUBLE):
        return OutOfSpace(cause=str(error))
    if is_outage(error):
        if connection.vendor != "sqlite":  # closing SQLite's last connection would remove its log
            connection.close()
        return DatabaseUnavailable(cause=cause_of(error))
    log.error("a write to the database failed", exc_info=error)
    return Internal()
