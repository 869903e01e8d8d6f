"""Some of the requests that a model has answered: to warm up the next version with, and to compare runtimes by."""

from __future__ import annotations

import random
import threading
import zlib
from collections.abc import Callable

from tfserve.conversions import ENOUGH_SAMPLES
from tfserve.ipc.predictions import Ask

KEEP = ENOUGH_SAMPLES
MAX_BYTES = 64 * 1024 * 1024
"""Of all together."""
FURTHER = 8
"""After `KEEP` different ones, it is said again whenever so many times more requests have been seen."""

Seen = Callable[[int], None]


class Samples:
    """Keeps different requests, each of all that were answered with the same chance (a reservoir).

    `on_seen` is called with the number of those that are kept whenever it has grown, and later now and then, as others
    have taken their place. Any thread may call these methods.
    """

    def __init__(self, on_seen: Seen | None = None) -> None:
        self._on_seen = on_seen
        self._lock = threading.Lock()
        self._kept: dict[int, Ask] = {}
        self._count = 0
        self._say_again_at = KEEP * FURTHER
        self._random = random.Random()  # noqa: S311 - nothing secret

    def all(self) -> list[Ask]:
        with self._lock:
            return list(self._kept.values())

    def wants(self, requests: int) -> int | None:
        """Which of the next `requests` is to be kept, if any; call `keep` with it once it is answered."""
        first, self._count = self._count, self._count + requests
        if len(self._kept) < KEEP:
            return first % requests
        chosen = self._random.randrange(self._count)
        # One draw for all of them: each takes a place with the chance KEEP / count.
        return chosen % requests if chosen < KEEP * requests else None

    def keep(self, ask: Ask) -> None:
        """Takes a request in, unless it is kept already or too large."""
        key = _key(ask)
        with self._lock:
            if key in self._kept or size(ask) + sum(map(size, self._kept.values())) > MAX_BYTES:
                return
            has_grown = len(self._kept) < KEEP
            if not has_grown:
                del self._kept[self._random.choice(list(self._kept))]
            self._kept[key] = ask
            says = has_grown or self._count >= self._say_again_at
            if self._count >= self._say_again_at:
                self._say_again_at *= FURTHER
        if says and self._on_seen is not None:
            self._on_seen(len(self._kept))


def _key(ask: Ask) -> int:
    """Equal for equal requests, and for hardly any others."""
    key = zlib.crc32(repr((ask.signature, ask.names, [(t.dtype, t.shape) for t in ask.tensors])).encode())
    for tensor in ask.tensors:
        key = (zlib.crc32(tensor.data, key) << 32) | zlib.adler32(tensor.data, key & 0xFFFFFFFF)
    return key


def size(ask: Ask) -> int:
    """Bytes of its tensors."""
    return sum(tensor.data.nbytes for tensor in ask.tensors)
