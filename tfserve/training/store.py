"""Arrays of one shape, made from files: kept in memory while they are few, else read again for each batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import numpy as np

from tfserve.tensors import Array

BUDGET_BYTES = 256 * 1024 * 1024

Read = Callable[[int], Array]


class Store:
    """`read(n)` gives the nth array, uint8 of `shape`."""

    def __init__(self, size: int, shape: Sequence[int], read: Read, budget_bytes: int = BUDGET_BYTES) -> None:
        self.shape = tuple(shape)
        self.dtype = np.dtype(np.uint8)
        self.size = size
        self._read = read
        self._kept: Array | None = None
        self.fits = size * int(np.prod(shape)) <= budget_bytes

    def load(self, threads: int, told: Callable[[float], None]) -> None:
        """Reads all if they fit into the budget. Calls `told` with the share that is done."""
        if not self.fits:
            return
        kept = np.empty((self.size, *self.shape), np.uint8)
        done = count(1)

        def fill(place: int) -> None:
            kept[place] = self._read(place)
            told(next(done) / self.size)

        with ThreadPoolExecutor(threads) as executor:
            for _ in executor.map(fill, range(self.size)):
                pass
        self._kept = kept

    def batch(self, places: Array) -> Array:
        """(len(places), *shape) uint8. Raises what reading raises."""
        if self._kept is not None:
            return self._kept[places]
        if not len(places):
            return np.empty((0, *self.shape), np.uint8)
        return np.stack([self._read(int(place)) for place in places])
