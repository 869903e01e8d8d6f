"""Arrays of one shape, made from image files, each decoded once.

They are kept in memory while they are few, else in one file without a name, so that memory does not grow with their
number; where the disk has no room for it, the images are decoded again for each batch.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import IO

import numpy as np

from tfserve.tensors import Array
from tfserve.training.writing import tells_full_disk

MEMORY_BYTES = 64 * 1024 * 1024
LEFT_FREE = 4
"""The file may take one part in so many of what is free on the disk."""

Read = Callable[[int], Array]


class Store:
    """`read(n)` gives the nth array, uint8 of `shape`. A file of theirs is in `folder`."""

    def __init__(
        self, size: int, shape: Sequence[int], read: Read, folder: Path, memory_bytes: int = MEMORY_BYTES
    ) -> None:
        self.shape = tuple(shape)
        self.dtype = np.dtype(np.uint8)
        self.size = size
        self._read = read
        self._folder = folder
        self._each_bytes = int(np.prod(shape))
        self._in_memory = size * self._each_bytes <= memory_bytes
        self._kept: Array | None = None
        self._file: IO[bytes] | None = None

    def load(self, threads: int, told: Callable[[float], None]) -> None:
        """Reads all, if there is a place for them. Calls `told` with the share that is done."""
        if self._in_memory:
            kept = np.empty((self.size, *self.shape), np.uint8)
            self._fill(kept.__setitem__, threads, told)
            self._kept = kept
        elif self.size * self._each_bytes <= shutil.disk_usage(self._folder).free / LEFT_FREE:
            self._write(threads, told)

    def batch(self, places: Array) -> Array:
        """(len(places), *shape) uint8. Raises what reading raises."""
        if self._kept is not None:
            return self._kept[places]
        arrays = np.empty((len(places), *self.shape), np.uint8)
        for array, place in zip(arrays, places, strict=True):
            if self._file is not None:
                os.preadv(self._file.fileno(), [array], int(place) * self._each_bytes)
            else:
                array[:] = self._read(int(place))
        return arrays

    def _write(self, threads: int, told: Callable[[float], None]) -> None:
        file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 (it has no name, and goes with the process)

        def keep(place: int, array: Array) -> None:
            os.pwrite(file.fileno(), array.tobytes(), place * self._each_bytes)

        try:
            os.posix_fallocate(file.fileno(), 0, self.size * self._each_bytes)
            self._fill(keep, threads, told)
            self._file = file
            weakref.finalize(self, file.close)
        except OSError as error:
            file.close()
            if not tells_full_disk(error):
                raise

    def _fill(self, keep: Callable[[int, Array], None], threads: int, told: Callable[[float], None]) -> None:
        done = count(1)

        def fill(place: int) -> None:
            keep(place, self._read(place))
            told(next(done) / self.size)

        with ThreadPoolExecutor(threads) as executor:
            for _ in executor.map(fill, range(self.size)):
                pass
