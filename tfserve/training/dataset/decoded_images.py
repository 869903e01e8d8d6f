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

from tfserve.tensors.specs import Array
from tfserve.training.atomic_files import is_disk_full

MEMORY_BYTES = 64 * 1024 * 1024
LEFT_FREE = 4
"""The file may use this fraction (1/n) of the free disk space."""

Read = Callable[[int], Array]


class Store:
    """`read(n)` returns the nth array, uint8 of `shape`. The file is in `folder`."""

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

    def load(self, threads: int, report: Callable[[float], None]) -> None:
        """Reads all arrays, if they fit. Calls `report` with the completed share."""
        if self._in_memory:
            kept = np.empty((self.size, *self.shape), np.uint8)
            self._fill(kept.__setitem__, threads, report)
            self._kept = kept
        elif self.size * self._each_bytes <= shutil.disk_usage(self._folder).free / LEFT_FREE:
            self._write(threads, report)

    def batch(self, indices: Array) -> Array:
        """(len(indices), *shape) uint8. Raises what reading raises."""
        if self._kept is not None:
            return self._kept[indices]
        arrays = np.empty((len(indices), *self.shape), np.uint8)
        for array, index in zip(arrays, indices, strict=True):
            if self._file is not None:
                os.preadv(self._file.fileno(), [array], int(index) * self._each_bytes)
            else:
                array[:] = self._read(int(index))
        return arrays

    def _write(self, threads: int, report: Callable[[float], None]) -> None:
        file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 (it has no name, and goes with the process)

        def keep(index: int, array: Array) -> None:
            os.pwrite(file.fileno(), array.tobytes(), index * self._each_bytes)

        try:
            os.posix_fallocate(file.fileno(), 0, self.size * self._each_bytes)
            self._fill(keep, threads, report)
            self._file = file
            weakref.finalize(self, file.close)
        except OSError as error:
            file.close()
            if not is_disk_full(error):
                raise

    def _fill(self, keep: Callable[[int, Array], None], threads: int, report: Callable[[float], None]) -> None:
        done = count(1)

        def fill(index: int) -> None:
            keep(index, self._read(index))
            report(next(done) / self.size)

        with ThreadPoolExecutor(threads) as executor:
            for _ in executor.map(fill, range(self.size)):
                pass
