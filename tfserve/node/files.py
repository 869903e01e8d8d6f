"""The files of one worker on a node: what it reads comes from the cache of the node, what it writes goes to the head.

content/           the cache, shared by all workers of the node (`tfserve.cluster.content.cache`)
digests.sqlite     of files that were written here
mirrors/<worker>/  folders that the worker and the head change; they go with the worker
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import secrets
import shutil
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from tfserve.cluster.content import trees
from tfserve.cluster.content.blobs import Blobs
from tfserve.cluster.content.cache import Cache
from tfserve.cluster.content.digests import Digests
from tfserve.cluster.content.errors import DISK_FULL, BadTree, NodeDiskFull
from tfserve.cluster.content.fetch import fetch
from tfserve.cluster.content.mirror import Changes, apply
from tfserve.cluster.content.offers import Offers
from tfserve.cluster.content.scan import scan, without
from tfserve.cluster.content.threads import in_thread, is_held, open_lock
from tfserve.errors import Internal, Invalid, Kind, TFserveError
from tfserve.ipc.connections import Connection, ConnectionLost, Handler
from tfserve.ipc.messages import (
    BlobParts,
    ChangeMirror,
    FileTree,
    ListMirror,
    Message,
    MirrorChanged,
    OpenMirror,
    ProvideTree,
    ReadBlobs,
    Request,
    WatchMirror,
)
from tfserve.supervisor.declared.file_events import FileEvents

log = logging.getLogger(__name__)

AGAIN_S = 0.25
TIMES = "timings"
"""How long the stages of trainings take on this machine: kept for other workers."""
INCOMING = ".incoming"

R = TypeVar("R")

Open = Callable[[Handler], Awaitable[Connection]]


class NodeFiles:
    """`node` is the name of this node. Create it on the event loop."""

    def __init__(self, folder: Path, limit_bytes: int, node: str) -> None:
        self._folder, self._node = folder, node
        self._cache = Cache(folder / "content", limit_bytes, node)
        self._mirrors = folder / "mirrors"
        self._own = self._mirrors / secrets.token_hex(8)
        self._lock = _locked(self._own)
        self._digests = Digests(folder / "digests.sqlite")
        self._offers = Offers()
        self._events: dict[str, FolderEvents] = {}
        self._connection: Connection | None = None
        self._changed = asyncio.Event()
        self._is_closed = False

    async def serve(self, open_connection: Open) -> None:
        """Keeps a connection to the head, and opens another one when it breaks. Ends when the head refuses it."""
        await in_thread(_remove_leftovers, self._mirrors)
        while not self._is_closed:
            try:
                self._connection = await open_connection(self.handle)
            except (ConnectionLost, OSError):
                await asyncio.sleep(AGAIN_S)
                continue
            except TFserveError as error:
                if error.kind not in (Kind.UNAVAILABLE, Kind.TIMED_OUT, Kind.INTERNAL):
                    log.info("the head needs no files of this worker: %s", error.message)
                    return
                await asyncio.sleep(AGAIN_S)
                continue
            self._changed.set()
            if self._is_closed:
                self._connection.close()
            await asyncio.wait([self._connection.lost])
            self._connection = None

    async def handle(self, message: Message) -> Any:
        """The response to a request of the head. Raises `TFserveError`."""
        try:
            return await self._handled(message)
        except OSError as error:
            if error.errno in DISK_FULL:
                raise NodeDiskFull.of(error, node=self._node, folder=str(self._folder)) from error
            raise Internal(f"Files can't be read or written on node {self._node}: {error}") from error

    async def _handled(self, message: Message) -> Any:
        match message:
            case ReadBlobs():
                return await self._offers.read(message)
            case ProvideTree():
                return await self._provide(message)
            case OpenMirror(name=name):
                return await in_thread(self._open_mirror, name)
            case ListMirror():
                return await self._list_mirror(message)
            case ChangeMirror():
                return await self._change_mirror(message)
            case WatchMirror(name=name):
                return self._watch(name)
        raise Invalid(f"{type(message).__name__} is not expected on this connection")

    async def close(self) -> None:
        """Releases the trees, and removes the mirrors."""
        if self._is_closed:
            return
        self._is_closed = True
        self._changed.set()
        for events in self._events.values():
            events.close()
        if self._connection is not None:
            self._connection.close()
        self._cache.close()
        self._digests.close()
        await in_thread(shutil.rmtree, self._own, ignore_errors=True)
        _lock_file(self._own).unlink(missing_ok=True)
        os.close(self._lock)

    # --- trees

    async def _provide(self, message: ProvideTree) -> str:
        if not trees.is_name(message.key):
            raise BadTree(problem=f"{message.key!r} is not a key")
        found = await self._cache.find(message.key)
        if found is None and message.tree is not None:
            found = await self._cache.provide(message.key, message.tree, self._read)
        return str(found or "")

    async def _read(self, request: ReadBlobs) -> BlobParts:
        return await self._ask(request)

    async def _ask(self, request: Request[R]) -> R:
        """The head's response, over another connection if one breaks."""
        while True:
            while self._connection is None and not self._is_closed:
                self._changed.clear()
                await self._changed.wait()
            if self._is_closed or self._connection is None:
                raise ConnectionLost
            connection = self._connection
            with contextlib.suppress(ConnectionLost):
                return await connection.ask(request)
            await asyncio.wait([connection.lost])
            if self._connection is connection:
                self._connection = None

    # --- mirrors

    def _open_mirror(self, name: str) -> str:
        folder = self._mirror(name)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return str(folder)

    async def _list_mirror(self, message: ListMirror) -> FileTree:
        folder = self._mirror(message.name)
        found = await in_thread(
            scan, folder, self._digests, roots=[folder], includes=without(*message.without), with_times=True
        )
        self._offers.set(message.name, found)
        return FileTree(name=message.name, entries=[each.entry for each in found])

    async def _change_mirror(self, message: ChangeMirror) -> None:
        folder = self._mirror(message.name)
        trees.check_entries(message.put)
        blobs = Blobs(self._own / INCOMING)
        await blobs.open()
        try:
            await fetch(self._read, message.put, blobs)
            await in_thread(apply, folder, Changes(message.put, message.remove), blobs)
        except OSError:
            await in_thread(blobs.drop, message.put)
            raise

    def _watch(self, name: str) -> None:
        if name not in self._events:
            self._events[name] = FolderEvents(self._mirror(name), lambda: self._notify(name))

    def _notify(self, name: str) -> None:
        if self._connection is not None:
            self._connection.notify(MirrorChanged(name=name))

    def _mirror(self, name: str) -> Path:
        """Raises `BadTree`."""
        if not trees.is_name(name) or name == INCOMING:
            raise BadTree(problem=f"{name!r} is not the name of a folder")
        return (self._folder if name == TIMES else self._own) / name


class FolderEvents:
    """Calls back when something in a folder or below it has changed. Create it on the event loop."""

    def __init__(self, folder: Path, on_change: Callable[[], None]) -> None:
        self._folder = folder
        self._on_change = on_change
        self._events = FileEvents(self._changed)
        self._events.watch(self._folders())

    def close(self) -> None:
        self._events.close()

    def _changed(self, _: object) -> None:
        """A new folder may have files by now: what it has is seen by the reader who is notified."""
        self._events.watch(self._folders())
        self._on_change()

    def _folders(self) -> Iterator[Path]:
        for where, _, _ in os.walk(self._folder):
            yield Path(where)


def _lock_file(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _locked(folder: Path) -> int:
    """Holds a new lock: what a killed process has left is recognised by its lock being free."""
    descriptor = open_lock(_lock_file(folder))
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def _remove_leftovers(mirrors: Path) -> None:
    for lock in mirrors.glob("*.lock"):
        if not is_held(lock):
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
            lock.unlink(missing_ok=True)
