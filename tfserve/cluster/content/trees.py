"""What identifies a tree of files, and the checks of one that another machine has sent."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import msgspec

from tfserve.cluster.content.errors import BadTree
from tfserve.ipc.messages import ContentEntry, FileTree

MAX_PATH_BYTES = 4096
MAX_NAME_BYTES = 255
MAX_ENTRIES = 2_000_000
DIGEST_BYTES = 32


def key_of(tree: FileTree) -> str:
    """Equal for two trees if and only if their names and contents are."""
    entries = [msgspec.structs.replace(each, mtime_ns=0) for each in tree.entries]
    return hashlib.sha256(msgspec.msgpack.encode((tree.name, entries))).hexdigest()


def size_of(entries: Iterable[ContentEntry]) -> int:
    """Bytes of the different contents."""
    return sum({each.digest: each.size for each in entries if each.is_file}.values())


def by_path(entries: Iterable[ContentEntry]) -> dict[str, ContentEntry]:
    return {each.path: each for each in entries}


def check(tree: FileTree) -> None:
    """Raises `BadTree` for what could lead out of its root, or is ambiguous."""
    if not is_name(tree.name):
        raise BadTree(problem=f"{tree.name!r} is not the name of a folder")
    check_entries(tree.entries)


def check_entries(entries: list[ContentEntry]) -> None:
    """Raises `BadTree`."""
    if len(entries) > MAX_ENTRIES:
        raise BadTree(problem=f"it has {len(entries)} entries, at most {MAX_ENTRIES} are allowed")
    known: dict[str, ContentEntry] = {}
    for each in entries:
        check_path(each.path)
        if each.path in known:
            raise BadTree(problem=f"{each.path!r} occurs twice")
        if each.is_file and (len(each.digest) != DIGEST_BYTES or each.size < 0 or each.is_link):
            raise BadTree(problem=f"{each.path!r} has an invalid size or digest")
        if "\0" in each.target or not 0 <= each.mode <= 0o777:
            raise BadTree(problem=f"{each.path!r} has an invalid target or mode")
        known[each.path] = each
    for path in known:
        _check_above(path, known)


def shown(tree: FileTree) -> str:
    """What users know it by: the name of the folder, with that of the file if there is only one."""
    files = [each for each in tree.entries if each.is_file]
    return f"{tree.name}/{files[0].path}" if len(files) == 1 else tree.name


def check_path(path: str) -> None:
    """Raises `BadTree` unless the path is relative and stays below its root."""
    parts = path.split("/")
    if not all(map(is_name, parts)) or len(path.encode("utf-8", "replace")) > MAX_PATH_BYTES:
        raise BadTree(problem=f"{path[:200]!r} is not a relative path")


def _check_above(path: str, known: Mapping[str, ContentEntry]) -> None:
    above, _, _ = path.rpartition("/")
    while above:
        if (entry := known.get(above)) is not None and (entry.is_file or entry.is_link):
            raise BadTree(problem=f"{path!r} is below {above!r}, which is not a folder")
        above, _, _ = above.rpartition("/")


def is_name(name: str) -> bool:
    """Whether it is one part of a path."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return False
    return 0 < size <= MAX_NAME_BYTES and name not in (".", "..") and "/" not in name and "\0" not in name
