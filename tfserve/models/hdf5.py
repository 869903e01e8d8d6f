"""Reads the names in the root group of an HDF5 file, without the HDF5 library: what the file contains.

Only the object header of the root group is read, so the cost does not depend on the size of the file. The layout is
that of the HDF5 File Format Specification, version 3.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from itertools import islice
from typing import BinaryIO, NamedTuple

SIGNATURE = b"\x89HDF\r\n\x1a\n"
MAX_MESSAGES = 2000
MAX_BYTES = 1 << 20
"""Of everything that is read: more is left to the HDF5 library."""

_SUPERBLOCK_BYTES = 128
_LINK_INFO, _LINK, _ATTRIBUTE, _CONTINUATION, _SYMBOL_TABLE, _ATTRIBUTE_INFO = 0x02, 0x06, 0x0C, 0x10, 0x11, 0x15
_IS_SHARED = 2
_NOWHERE = (1 << 64) - 1
_FIXED_BYTES = {1: 8, 2: 8, 3: 9}
"""By the version of an attribute: the bytes before its name."""


class Superblock(NamedTuple):
    end: int
    root: int
    #: positions are relative to this one
    base: int


class Hdf5Root(NamedTuple):
    attributes: frozenset[str]
    #: groups and arrays; empty where a long index has them
    links: frozenset[str]


class _Message(NamedTuple):
    number: int
    is_shared: bool
    data: bytes


def superblock(head: bytes) -> Superblock | None:
    """The first bytes of the file; None for a layout without 64-bit positions, which only old programs wrote."""
    head = head[:_SUPERBLOCK_BYTES].ljust(_SUPERBLOCK_BYTES, b"\0")
    version = head[8]
    if version > 3 or head[13 if version < 2 else 9] != 8:
        return None
    if version >= 2:
        base, _, end, root = struct.unpack_from("<4Q", head, 12)
        return Superblock(end, root, base)
    base, _, end, _, _, root = struct.unpack_from("<6Q", head, 28 if version == 1 else 24)
    return Superblock(end, root, base)


def root(opened: BinaryIO, block: Superblock) -> Hdf5Root | None:
    """The names in the root group. None if they are stored in a way that only the HDF5 library reads."""
    try:
        return _root(_Reader(opened, block.base), block.root)
    except (struct.error, ValueError, IndexError):
        return None


def _root(reader: _Reader, at: int) -> Hdf5Root | None:
    attributes, links = set(), set()
    for message in islice(reader.messages(at), MAX_MESSAGES):
        if message.number == _ATTRIBUTE:
            if message.is_shared:
                return None
            attributes.add(_attribute(message.data))
        elif message.number == _ATTRIBUTE_INFO and _heap_of_attributes(message.data) != _NOWHERE:
            return None
        elif message.number == _LINK and not message.is_shared:
            links.add(_link(message.data))
        elif message.number == _SYMBOL_TABLE:
            links |= reader.heap(struct.unpack_from("<2Q", message.data)[1])
    return Hdf5Root(frozenset(attributes), frozenset(links))


class _Reader:
    def __init__(self, opened: BinaryIO, base: int) -> None:
        self._opened = opened
        self._base = base
        self._size = opened.seek(0, os.SEEK_END)
        self._left = MAX_BYTES

    def bytes_at(self, at: int, size: int) -> bytes:
        """Raises `ValueError` if the file has fewer, or too much was read before."""
        self._left -= size
        if self._left < 0 or self._base + at + size > self._size:
            raise ValueError("truncated, damaged or too large")
        self._opened.seek(self._base + at)
        return self._opened.read(size)

    def messages(self, at: int) -> Iterator[_Message]:
        """Those of an object header, in all its blocks."""
        head = self.bytes_at(at, 16)
        before, blocks = self._second(at, head) if head.startswith(b"OHDR") else self._first(at, head)
        for begin, size in blocks:
            data = self.bytes_at(begin, size)
            for message in _split(data[4:-4] if data.startswith(b"OCHK") else data, before):
                yield message
                if message.number == _CONTINUATION:
                    blocks.append(struct.unpack_from("<2Q", message.data))

    def _first(self, at: int, head: bytes) -> tuple[int, list[tuple[int, int]]]:
        if head[0] != 1:
            raise ValueError("not an object header")
        return 0, [(at + 16, struct.unpack_from("<I", head, 8)[0])]

    def _second(self, at: int, head: bytes) -> tuple[int, list[tuple[int, int]]]:
        """Also the size of what comes before the data of a message."""
        flags = head[5]
        begin = 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
        width = 1 << (flags & 3)
        size = int.from_bytes(self.bytes_at(at + begin, width), "little")
        return (6 if flags & 4 else 4), [(at + begin + width, size)]

    def heap(self, at: int) -> set[str]:
        """The names of a group of the first version. Some of them may be those of removed links."""
        head = self.bytes_at(at, 32)
        size, _, data_at = struct.unpack_from("<3Q", head, 8)
        return {_text(each) for each in self.bytes_at(data_at, size).split(b"\0") if each}


def _split(data: bytes, before: int) -> Iterator[_Message]:
    """The messages of a block. `before` is 0 in the first version."""
    at = 0
    while at + (before or 8) <= len(data):
        number, size, flags = struct.unpack_from("<BHB" if before else "<HHB", data, at)
        at += (before or 8) + size
        if at > len(data):
            raise ValueError("truncated")
        yield _Message(number, bool(flags & _IS_SHARED), data[at - size : at])


def _attribute(data: bytes) -> str:
    begin = _FIXED_BYTES.get(data[0])
    if begin is None:
        raise ValueError("an attribute of an unknown version")
    (size,) = struct.unpack_from("<H", data, 2)
    return _text(data[begin : begin + size])


def _link(data: bytes) -> str:
    flags = data[1]
    at = 2 + (1 if flags & 8 else 0) + (8 if flags & 4 else 0) + (1 if flags & 0x10 else 0)
    width = 1 << (flags & 3)
    size = int.from_bytes(data[at : at + width], "little")
    return _text(data[at + width : at + width + size])


def _heap_of_attributes(data: bytes) -> int:
    found: int = struct.unpack_from("<Q", data, 4 if data[1] & 1 else 2)[0]
    return found


def _text(name: bytes) -> str:
    return name.rstrip(b"\0").decode(errors="replace")
