"""A sample of answered requests, used to warm up the next version and to compare runtimes."""

from __future__ import annotations

import contextlib
import random
import threading
import zlib
from collections.abc import Callable, Iterator

from tfserve.ipc.predictions import ComputeRequest
from tfserve.models.runtime_reports import ENOUGH_SAMPLES

KEEP = ENOUGH_SAMPLES
MAX_BYTES = 64 * 1024 * 1024
"""Maximum size of all samples."""
FURTHER = 8
"""After `KEEP` different requests, `on_seen` is called each time the number of requests has grown by this factor."""

Seen = Callable[[int], None]


class RequestSamples:
    """Keeps different requests, each of all that were answered with the same chance (a reservoir).

    `on_seen` is called with the number of those that are kept whenever it has grown, and later periodically, as others
    have taken their place. Any thread may call these methods.
    """

    def __init__(self, on_seen: Seen | None = None) -> None:
        self._on_seen = on_seen
        self._lock = threading.Lock()
        self._kept: dict[int, ComputeRequest] = {}
        self._count = 0
        self._is_paused = False
        self._notify_again_at = KEEP * FURTHER
        self._random = random.Random()  # noqa: S311 - nothing secret

    def all(self) -> list[ComputeRequest]:
        with self._lock:
            return list(self._kept.values())

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Keeps nothing meanwhile, because the computations are not those of callers."""
        self._is_paused = True
        try:
            yield
        finally:
            self._is_paused = False

    def wants(self, requests: int) -> int | None:
        """Which of the next `requests` is to be kept, if any; call `keep` with it once it is answered."""
        if self._is_paused:
            return None
        first, self._count = self._count, self._count + requests
        if len(self._kept) < KEEP:
            return first % requests
        chosen = self._random.randrange(self._count)
        # One draw for all of them: each is kept with probability KEEP / count.
        return chosen % requests if chosen < KEEP * requests else None

    def keep(self, ask: ComputeRequest) -> None:
        """Adds a request, unless it is already kept or too large."""
        key = _key(ask)
        with self._lock:
            if key in self._kept or size(ask) + sum(map(size, self._kept.values())) > MAX_BYTES:
                return
            has_grown = len(self._kept) < KEEP
            if not has_grown:
                del self._kept[self._random.choice(list(self._kept))]
            self._kept[key] = ask
            is_due = has_grown or self._count >= self._notify_again_at
            if self._count >= self._notify_again_at:
                self._notify_again_at *= FURTHER
        if is_due and self._on_seen is not None:
            self._on_seen(len(self._kept))


def _key(ask: ComputeRequest) -> int:
    """Equal for equal requests, and for hardly any others."""
    key = zlib.crc32(repr((ask.signature, ask.names, [(t.dtype, t.shape) for t in ask.tensors])).encode())
    for tensor in ask.tensors:
        key = (zlib.crc32(tensor.data, key) << 32) | zlib.adler32(tensor.data, key & 0xFFFFFFFF)
    return key


def size(ask: ComputeRequest) -> int:
    """Bytes of its tensors."""
    return sum(tensor.data.nbytes for tensor in ask.tensors)
