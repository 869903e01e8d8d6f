"""Files that one machine requests from another: only what is missing, only what was offered, and never a wrong byte."""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import shutil
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from lines import Server, scanned

from tfserve.cluster.content import blobs as blob_files
from tfserve.cluster.content.blobs import Blobs
from tfserve.cluster.content.cache import Cache
from tfserve.cluster.content.errors import CacheTooSmall, ContentChanged, DamagedContent, NodeDiskFull, NotOffered
from tfserve.cluster.content.fetch import CHUNK_BYTES, fetch
from tfserve.cluster.content.offers import Offers
from tfserve.cluster.content.threads import whole_in_thread
from tfserve.cluster.content.trees import BadTree, key_of
from tfserve.errors import Invalid, TFserveError
from tfserve.ipc.connections import ConnectionLost
from tfserve.ipc.messages import BlobPart, BlobParts, FileTree, ReadBlobs
from tfserve.runtimes.unchanged import ModelFiles

LARGE = os.urandom(3 * CHUNK_BYTES + 17)
GIB = 2**30


class Head:
    """A machine with a model, and what it has sent."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "3"
        (self.root / "variables").mkdir(parents=True)
        (self.root / "graph.pb").write_bytes(b"graph")
        (self.root / "copy.pb").write_bytes(b"graph")
        (self.root / "empty").write_bytes(b"")
        (self.root / "run.sh").write_bytes(b"#!/bin/sh")
        (self.root / "run.sh").chmod(0o755)
        (self.root / "link").symlink_to("variables/data")
        (self.root / "variables" / "data").write_bytes(LARGE)
        self.offers = Offers()
        self.server = Server(self.offers.read)

    @property
    def tree(self) -> FileTree:
        found = scanned(self.root)
        self.offers.set("model", found)
        return FileTree(name=self.root.name, entries=[each.entry for each in found])

    async def ask(self, request: ReadBlobs) -> BlobParts:
        return await self.server.handle(request)


@pytest.fixture
def head(tmp_path: Path) -> Head:
    return Head(tmp_path / "head")


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "node", GIB, "n1")


async def provided(cache: Cache, tree: FileTree, ask: Callable[[ReadBlobs], Awaitable[BlobParts]]) -> Path:
    return await cache.provide(key_of(tree), tree, ask)


async def test_a_tree_arrives_as_it_is(head: Head, cache: Cache) -> None:
    root = await provided(cache, head.tree, head.ask)
    assert root.name == "3"
    assert {each.relative_to(root): each.read_bytes() for each in root.rglob("*") if each.is_file()} == {
        each.relative_to(head.root): each.read_bytes() for each in head.root.rglob("*") if each.is_file()
    }
    assert (root / "link").readlink() == Path("variables/data")
    assert os.access(root / "run.sh", os.X_OK)
    assert (root / "graph.pb").stat().st_mode & 0o777 == 0o444


async def test_a_second_deployment_sends_nothing(head: Head, cache: Cache, tmp_path: Path) -> None:
    tree = head.tree
    first = await provided(cache, tree, head.ask)
    sent = head.server.sent_bytes
    assert sent == len(LARGE) + len(b"graph") + len(b"#!/bin/sh")  # each content once
    assert await Cache(tmp_path / "node", GIB).find(key_of(tree)) == first
    head.root.rename(head.root.with_name("4"))  # the next version, with one other file
    head.root = head.root.with_name("4")
    (head.root / "graph.pb").write_bytes(b"other graph")
    await provided(cache, head.tree, head.ask)
    assert head.server.sent_bytes == sent + len(b"other graph")


async def test_only_what_was_offered_is_served(head: Head, tmp_path: Path) -> None:
    tree = head.tree
    part = BlobPart(next(each.digest for each in tree.entries if each.path == "graph.pb"), 0, 5)
    assert (await head.ask(ReadBlobs(parts=[part]))).data == [b"graph"]
    head.offers.withdraw("model")
    for digest in (part.digest, b"d" * 32, b"/etc/passwd"):
        with pytest.raises(TFserveError, match="was not offered"):
            await head.ask(ReadBlobs(parts=[BlobPart(digest, 0, 5)]))
    with pytest.raises(NotOffered):
        await Offers().read(ReadBlobs(parts=[part]))


@pytest.mark.parametrize(("offset", "size"), [(0, 6), (-1, 2), (5, 1), (0, -1), (2**62, 1)])
async def test_no_bytes_outside_a_file_are_served(head: Head, offset: int, size: int) -> None:
    digest = next(each.digest for each in head.tree.entries if each.path == "graph.pb")
    with pytest.raises(Invalid):
        await head.offers.read(ReadBlobs(parts=[BlobPart(digest, offset, size)]))


async def test_a_request_for_too_much_is_refused(head: Head) -> None:
    digest = next(each.digest for each in head.tree.entries if each.path == "variables/data")
    with pytest.raises(Invalid, match="expected at most"):
        await head.offers.read(ReadBlobs(parts=[BlobPart(digest, 0, len(LARGE))] * 4))


@pytest.mark.parametrize("way", ["rewritten", "replaced", "linked", "gone"])
async def test_a_file_that_changes_meanwhile_is_an_error_that_says_so(
    head: Head, cache: Cache, tmp_path: Path, way: str
) -> None:
    tree, file = head.tree, head.root / "variables" / "data"
    if way == "rewritten":
        file.write_bytes(LARGE[::-1])
    else:
        file.unlink()
    if way == "replaced":
        file.write_bytes(LARGE)
    elif way == "linked":
        (tmp_path / "secret").write_bytes(LARGE)
        file.symlink_to(tmp_path / "secret")
    with pytest.raises(TFserveError, match=r"variables/data (changed while|can't be copied)"):
        await provided(cache, tree, head.ask)
    assert await cache.find(key_of(tree)) is None


async def test_a_file_that_changes_while_it_is_hashed_is_refused(head: Head, monkeypatch: pytest.MonkeyPatch) -> None:
    file = head.root / "graph.pb"
    real = os.fstat

    def growing(descriptor: int) -> os.stat_result:
        os.truncate(file, real(descriptor).st_size + 1)
        return real(descriptor)

    monkeypatch.setattr(os, "fstat", growing)
    with pytest.raises(ContentChanged, match=r"graph\.pb changed while it was copied"):
        scanned(head.root, paths=["graph.pb"])


@pytest.mark.parametrize("path", ["variables/data", "graph.pb"])
async def test_wrong_bytes_never_become_a_file(head: Head, cache: Cache, path: str) -> None:
    tree = head.tree
    head.server.change = lambda data: data[:-1] + b"!" if data else data
    with pytest.raises(DamagedContent, match="arrived damaged: its SHA-256 is"):
        await provided(cache, tree, head.ask)
    head.server.change = lambda data: data
    root = await provided(cache, tree, head.ask)
    assert (root / path).read_bytes() == (head.root / path).read_bytes()


async def test_a_truncated_response_is_refused(head: Head, cache: Cache) -> None:
    head.server.change = lambda data: data[:-1]
    with pytest.raises(DamagedContent, match="truncated"):
        await provided(cache, head.tree, head.ask)


async def test_a_broken_transfer_continues_where_it_was(head: Head, tmp_path: Path) -> None:
    tree = head.tree
    large = [each for each in tree.entries if each.path == "variables/data"]
    store = Blobs(tmp_path / "node")

    requests = itertools.count(1)

    async def ask(request: ReadBlobs) -> BlobParts:
        if next(requests) == 3:
            raise ConnectionLost
        return await head.ask(request)

    await store.open()
    with pytest.raises(ConnectionLost):
        await fetch(ask, large, store)
    kept = (tmp_path / "node" / "partial" / large[0].digest.hex()).stat().st_size
    assert kept
    assert await fetch(head.ask, large, Blobs(tmp_path / "node")) == len(LARGE) - kept  # another process
    assert store.path_of(large[0].digest).read_bytes() == LARGE


async def test_a_damaged_beginning_is_fetched_again(head: Head, tmp_path: Path) -> None:
    large = [each for each in head.tree.entries if each.path == "variables/data"]
    store = Blobs(tmp_path / "node")
    await store.open()
    (tmp_path / "node" / "partial" / large[0].digest.hex()).write_bytes(b"wrong" + LARGE[5:CHUNK_BYTES])
    await fetch(head.ask, large, store)
    assert store.path_of(large[0].digest).read_bytes() == LARGE


async def test_two_fetches_at_once_send_the_content_once(head: Head, tmp_path: Path) -> None:
    tree = head.tree
    caches = [Cache(tmp_path / "node", GIB) for _ in range(3)]
    roots = await asyncio.gather(*(provided(each, tree, head.ask) for each in caches))
    assert len(set(roots)) == 1
    assert head.server.sent_bytes == len(LARGE) + len(b"graph") + len(b"#!/bin/sh")


async def test_after_a_start_of_the_machine_blobs_are_verified(
    head: Head, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = head.tree
    root = await provided(cache, tree, head.ask)
    cache.close()
    blob = cache.blobs.path_of(next(e.digest for e in tree.entries if e.path == "variables/data"))
    blob.chmod(0o644)
    blob.write_bytes(bytes(len(LARGE)))  # what a power cut may leave
    (tmp_path / "boot_id").write_text("another")
    monkeypatch.setattr(blob_files, "BOOT_ID", tmp_path / "boot_id")
    sent = head.server.sent_bytes
    again = await provided(Cache(tmp_path / "node", GIB), tree, head.ask)
    assert again == root
    assert (again / "variables" / "data").read_bytes() == LARGE
    assert head.server.sent_bytes == sent + len(LARGE)


async def test_a_model_that_is_larger_than_the_cache_is_refused(head: Head, tmp_path: Path) -> None:
    small = Cache(tmp_path / "node", CHUNK_BYTES, "n1")
    with pytest.raises(
        CacheTooSmall, match=r"3 \(3 MiB\) does not fit into the cache of node n1, whose limit is 1 MiB"
    ):
        await provided(small, head.tree, head.ask)
    assert head.server.sent_bytes == 0


def model(head: Head, name: str) -> FileTree:
    """Another model of 3 MiB."""
    head.root = head.root.parent / name
    head.root.mkdir()
    (head.root / "data").write_bytes(name.encode() + LARGE)
    found = scanned(head.root)
    head.offers.set(name, found)
    return FileTree(name=name, entries=[each.entry for each in found])


async def test_the_least_recently_used_tree_makes_room(head: Head, tmp_path: Path) -> None:
    limit = 3 * len(LARGE)
    one, two, three = (model(head, name) for name in ("one", "two", "three"))
    for each in (one, two, one):
        used = Cache(tmp_path / "node", limit)
        await provided(used, each, head.ask)
        used.close()
    cache = Cache(tmp_path / "node", limit)
    await provided(cache, three, head.ask)
    assert await cache.find(key_of(two)) is None
    assert await cache.find(key_of(one)) is not None
    assert sum(each.st_size for each in cache.blobs.sizes().values()) <= limit


async def test_what_is_in_use_stays(head: Head, tmp_path: Path) -> None:
    limit = 2 * len(LARGE)
    one, two = model(head, "one"), model(head, "two")
    worker = Cache(tmp_path / "node", limit)
    root = await provided(worker, one, head.ask)
    other = Cache(tmp_path / "node", limit)
    with pytest.raises(CacheTooSmall, match="of which 3 MiB are in use"):
        await provided(other, two, head.ask)
    assert (root / "data").is_file()
    worker.close()
    await provided(other, two, head.ask)
    assert not root.exists()


async def test_a_full_disk_is_an_error_that_says_so(
    head: Head, cache: Cache, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as disk:
        disk.setattr(os, "pwrite", full)
        with pytest.raises(NodeDiskFull, match="The disk of node n1 can't hold the files: No space left on device"):
            await provided(cache, head.tree, head.ask)
    assert not cache.blobs.sizes(), "neither a part of a file nor a whole one"
    root = await provided(cache, head.tree, head.ask)
    assert (root / "variables" / "data").read_bytes() == LARGE


async def test_files_are_not_removed_while_a_thread_still_writes_them() -> None:
    begun, may_end, ended = threading.Event(), threading.Event(), threading.Event()

    def write() -> None:
        begun.set()
        may_end.wait(10)
        ended.set()

    task = asyncio.create_task(whole_in_thread(write))
    await asyncio.to_thread(begun.wait, 10)
    task.cancel()
    await asyncio.wait([task], timeout=0.05)
    assert not task.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_what_is_not_used_makes_room_on_a_disk_that_is_smaller_than_the_limit(
    head: Head, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    disk = 2 * len(LARGE)
    cache = Cache(tmp_path / "node", GIB, "n1")
    await cache.find("0" * 64)  # makes the folders

    def free(_: object) -> object:
        used = sum(each.st_size for each in cache.blobs.sizes().values())
        return shutil._ntuple_diskusage(disk, used, disk - used)  # type: ignore[attr-defined]

    monkeypatch.setattr(shutil, "disk_usage", free)
    one, two = model(head, "one"), model(head, "two")
    root = await provided(cache, one, head.ask)
    with pytest.raises(NodeDiskFull, match=r"can't hold two/data: it needs 3 MiB, and 3 MiB are free\. Free space in"):
        await provided(cache, two, head.ask)
    assert (root / "data").is_file()
    cache.close()
    await provided(cache, two, head.ask)
    assert not root.exists()


async def test_a_hostile_tree_is_refused(cache: Cache, head: Head) -> None:
    tree = head.tree
    with pytest.raises(BadTree, match="its key is not"):
        await cache.provide("0" * 64, tree, head.ask)
    with pytest.raises(BadTree, match="is not a relative path"):
        await provided(
            cache, FileTree(name="x", entries=[tree.entries[0].__class__("../x", digest=b"d" * 32)]), head.ask
        )


async def test_a_further_tree_does_not_change_the_files_of_a_loaded_model(head: Head, cache: Cache) -> None:
    loaded = ModelFiles(await provided(cache, head.tree, head.ask))
    head.root = head.root.rename(head.root.with_name("4"))
    await provided(cache, head.tree, head.ask)  # with hard links to the same files
    loaded.check()
