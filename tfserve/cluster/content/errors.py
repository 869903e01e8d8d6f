"""What can go wrong while files are copied to another machine."""

from __future__ import annotations

import errno

from tfserve.errors import Conflict, Invalid, NotFound, OutOfSpace, Unavailable

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


class ContentChanged(Conflict):
    """{path} changed while it was copied to another machine. Wait until it is complete, and try again."""


class UnreadableFile(Invalid):
    """{path} can't be copied to another machine: {cause}. Make it readable for this server."""


class BadTree(Invalid):
    """The list of files from another machine is refused: {problem}."""


class NotOffered(NotFound):
    """This content was not offered to the machine that requested it."""


class DamagedContent(Unavailable):
    """{path} arrived damaged: its SHA-256 is {found}, expected {expected}. Try again."""


class CacheTooSmall(OutOfSpace):
    """{name} ({size}) does not fit into the cache of node {node}, whose limit is {limit} (node_cache) and of which \
{used} are in use. Raise node_cache, or undeploy models from this node."""


class NodeDiskFull(OutOfSpace):
    """The disk of node {node} can't hold {what}: {cause}. Free space in {folder} on that node, or undeploy models \
from it."""

    @classmethod
    def of(cls, error: OSError, *, node: str, folder: str) -> NodeDiskFull:
        return cls(node=node, what="the files", cause=error.strerror, folder=folder)
