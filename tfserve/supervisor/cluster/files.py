"""The files of workers on nodes: what a node may read of this machine, and what it returns.

Each worker on a node has a connection of its own for files. When it breaks, its actor opens another one, and what was
requested is requested again.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from tfserve.cluster.content import trees
from tfserve.cluster.content.blobs import Blobs
from tfserve.cluster.content.digests import Digests
from tfserve.cluster.content.fetch import fetch
from tfserve.cluster.content.mirror import Changes, apply
from tfserve.cluster.content.offers import Offers
from tfserve.cluster.content.scan import ScannedEntry, scan
from tfserve.cluster.content.threads import in_thread
from tfserve.config import Settings
from tfserve.errors import Invalid, OutOfSpace, TFserveError
from tfserve.ipc.connections import Connection, ConnectionLost, Handler
from tfserve.ipc.messages import (
    BlobParts,
    ChangeMirror,
    ContentEntry,
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
from tfserve.supervisor.cluster import shares
from tfserve.supervisor.cluster.path_map import PathMap
from tfserve.supervisor.cluster.shares import Share

R = TypeVar("R")
P = ParamSpec("P")

WEIGHTS = "weights"
"""The parameter of a training that may be a file."""

Send = Callable[[Request[Any]], Awaitable[Any]]


class HeadFiles:
    """The files of all workers on nodes."""

    def __init__(self, settings: Settings, callers_umask: int) -> None:
        self.callers_umask = callers_umask
        self._folder = settings.data_path / "cluster"
        self.digests = Digests(self._folder / "digests.sqlite")
        self.roots = [*settings.root_paths, settings.data_path]
        self._shared = settings.shared_path
        self._workers: dict[str, WorkerFiles] = {}
        shutil.rmtree(self._folder / "incoming", ignore_errors=True)  # of a server that was killed

    def of(self, worker: str) -> WorkerFiles:
        """Those of a worker, from its start until `closed`."""
        if worker not in self._workers:
            self._workers[worker] = WorkerFiles(self, self._folder / "incoming" / secrets.token_hex(8))
        return self._workers[worker]

    def closed(self, worker: str) -> None:
        """The worker is gone: what waits for its node fails with `ConnectionLost`."""
        if (files := self._workers.pop(worker, None)) is not None:
            files.close()

    def is_shared(self, path: str | Path) -> bool:
        """Whether all machines see it at the same path."""
        return self._shared is not None and Path(path).resolve().is_relative_to(self._shared)

    def close(self) -> None:
        for worker in list(self._workers):
            self.closed(worker)
        self.digests.close()


class WorkerFiles:
    """The files of one worker on a node."""

    def __init__(self, head: HeadFiles, incoming: Path) -> None:
        self.head = head
        self._incoming = incoming
        self._blobs: Blobs | None = None
        self._offers = Offers()
        self._connection: Connection | None = None
        self._changed = asyncio.Event()
        self._is_closed = False
        self._on_mirror: dict[str, Callable[[], None]] = {}
        self.received_bytes = 0

    @property
    def sent_bytes(self) -> int:
        return self._offers.sent_bytes

    # --- the connection

    def attach(self, connection: Connection) -> Handler:
        """Takes over a new connection of the worker. Returns what handles the requests of its node."""
        self._connection = connection
        self._changed.set()
        return self._handle

    def close(self) -> None:
        self._is_closed = True
        self._changed.set()
        if self._connection is not None:
            self._connection.close()
        shutil.rmtree(self._incoming, ignore_errors=True)

    async def ask(self, request: Request[R]) -> R:
        """The node's response, over another connection if one breaks. Raises `ConnectionLost` when it is gone."""
        while True:
            while self._connection is None and not self._is_closed:
                self._changed.clear()
                await self._changed.wait()
            connection = self._connection
            if connection is None or self._is_closed:
                raise ConnectionLost
            try:
                return await connection.ask(request)
            except ConnectionLost:
                if self._connection is connection:
                    self._connection = None

    async def _handle(self, message: Message) -> Any:
        match message:
            case ReadBlobs():
                return await self._offers.read(message)
            case MirrorChanged(name=name):
                if (notify := self._on_mirror.get(name)) is not None:
                    notify()
                return None
        raise Invalid(f"{type(message).__name__} is not expected on this connection")

    # --- to the node

    async def provide(self, path_map: PathMap, describe: Callable[P, Share], *args: P.args, **kwargs: P.kwargs) -> None:
        """Makes files of the head available on the node, read-only. Raises `UnreadableFile`, `ContentChanged`.

        `describe` is called in a thread.
        """
        share, found = await in_thread(self._scanned, lambda: describe(*args, **kwargs))
        if not found:
            return
        tree = FileTree(name=share.root.name or "root", entries=[each.entry for each in found])
        key = trees.key_of(tree)
        path = await self.ask(ProvideTree(key=key)) or await self._offer(key, tree, found)
        path_map.add(str(share.root), path, share.paths)

    async def provide_weights(self, path_map: PathMap, parameters: dict[str, Any]) -> dict[str, Any]:
        """The parameters of a training, with the path on the node of a file of weights."""
        weights = parameters.get(WEIGHTS)
        if not isinstance(weights, str) or not weights.startswith("/"):
            return parameters
        own = PathMap()
        await self.provide(own, shares.of_file, weights)
        if (on_node := own.to_node(weights)) != weights:
            path_map.add(weights, on_node)
        return parameters | {WEIGHTS: on_node}

    def _scanned(self, describe: Callable[[], Share]) -> tuple[Share, list[ScannedEntry]]:
        """Nothing is found in a folder that all machines see, or that is missing: the worker reports that."""
        share, head = describe(), self.head
        if head.is_shared(share.root) or not share.root.is_dir():
            return share, []
        found = scan(share.root, head.digests, paths=share.paths, roots=head.roots, includes=share.includes)
        return share, found

    async def _offer(self, key: str, tree: FileTree, found: list[ScannedEntry]) -> str:
        with self.offering(key, found):
            return await self.ask(ProvideTree(key=key, tree=tree))

    @contextlib.contextmanager
    def offering(self, name: str, found: list[ScannedEntry]) -> Any:
        """While the block runs, the node may read these files."""
        self._offers.set(name, found)
        try:
            yield
        finally:
            self._offers.withdraw(name)

    # --- mirrors

    async def open_mirror(self, name: str) -> str:
        return await self.ask(OpenMirror(name=name))

    async def watch_mirror(self, name: str, notify: Callable[[], None]) -> None:
        self._on_mirror[name] = notify
        await self.ask(WatchMirror(name=name))

    async def list_mirror(self, name: str, without: tuple[str, ...] = ()) -> list[ContentEntry]:
        """Raises `BadTree` if the node sends what no folder can have."""
        entries = (await self.ask(ListMirror(name=name, without=list(without)))).entries
        trees.check_entries(entries)
        return entries

    async def change_mirror(self, name: str, changes: Changes, found: list[ScannedEntry]) -> None:
        with self.offering(f"to {name}", found):
            await self.ask(ChangeMirror(name=name, put=changes.put, remove=changes.remove))

    async def bring_back(self, folder: Path, changes: Changes) -> None:
        """Makes changes in a folder of the head, with files that the node has listed. Raises `OutOfSpace`."""
        try:
            blobs = await self.receive(changes.put)
            await in_thread(apply, folder, changes, blobs, durably=True)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise OutOfSpace(cause=f"files of a node can't be written to {folder}: {error.strerror}") from error

    async def receive(self, entries: list[ContentEntry]) -> Blobs:
        """Fetches files that the node has listed."""
        if self._blobs is None:
            blobs = Blobs(self._incoming)
            await blobs.open()
            self._blobs = blobs
        self.received_bytes += await fetch(self._read, entries, self._blobs)
        return self._blobs

    async def _read(self, request: ReadBlobs) -> BlobParts:
        return await self.ask(request)


async def asked(path_map: PathMap, send: Callable[[Request[R]], Awaitable[R]], request: Request[R]) -> R:
    """The response of a worker, or its error, with the paths of the head."""
    try:
        return path_map.in_response(await send(request))
    except TFserveError as error:
        raise path_map.in_error(error) from None
