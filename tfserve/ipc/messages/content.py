"""Files that head and nodes of a cluster send each other, by content. Requests go both ways on one connection."""

from __future__ import annotations

import msgspec

from tfserve.ipc.messages.base import Message, Request


class ContentEntry(msgspec.Struct, frozen=True, array_like=True):
    """A file, folder or symbolic link. `path` is relative to a root, with slashes; `digest` is the SHA-256 of a file.

    A link has a `target` instead, and a folder has neither. `mtime_ns` is 0 where it does not matter.
    """

    path: str
    size: int = 0
    mode: int = 0
    digest: bytes = b""
    target: str = ""
    mtime_ns: int = 0

    @property
    def is_file(self) -> bool:
        return bool(self.digest)

    @property
    def is_link(self) -> bool:
        return bool(self.target)

    @property
    def content(self) -> tuple[int, bytes, str]:
        """Equal for two entries that need not be copied."""
        return self.mode, self.digest, self.target


class FileTree(Message):
    """What is below a root with the name `name`."""

    name: str
    entries: list[ContentEntry]


class BlobPart(msgspec.Struct, frozen=True, array_like=True):
    """`size` bytes from `offset` of the file with this SHA-256."""

    digest: bytes
    offset: int
    size: int


class BlobParts(Message):
    """The bytes of each requested part."""

    data: list[bytes]


class ReadBlobs(Request[BlobParts]):
    """Reads parts of files that the other end has offered, together about a MiB. Fails for all other files."""

    parts: list[BlobPart]


class ProvideTree(Request[str]):
    """Makes files available to a worker on a node, read-only. Responds with the path of their root.

    `key` identifies names and content. Without a `tree` the response is empty unless the node has the files already.
    """

    key: str
    tree: FileTree | None = None


class OpenMirror(Request[str]):
    """Makes a folder of its own for a worker on a node, which both ends change. Responds with its path."""

    name: str


class ListMirror(Request[FileTree]):
    """What is in a mirror now, without names that match a pattern in `without`. Offers these files."""

    name: str
    without: list[str] = []


class ChangeMirror(Request[None]):
    """Puts files, in this order, and then removes paths. Links are never followed."""

    name: str
    put: list[ContentEntry] = []
    remove: list[str] = []


class WatchMirror(Request[None]):
    """From now on the node sends `MirrorChanged` when a file in a mirror is complete or gone."""

    name: str


class MirrorChanged(Message):
    """Something in a watched mirror has changed."""

    name: str
