"""Features of a pretrained network for each image: computed once, and kept in a file between attempts."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfserve.tensors.specs import Array
from tfserve.training.atomic_files import written_aside
from tfserve.training.fit.augment import Augment, move
from tfserve.training.fit.batches import Arrays

BATCH = 32


class Features:
    """The output of a network for each image, in a file of which only the needed rows are read."""

    def __init__(self, file: Path) -> None:
        self._rows = np.load(file, mmap_mode="r", allow_pickle=False)
        self.shape: tuple[int, ...] = self._rows.shape[1:]
        self.dtype = self._rows.dtype

    @classmethod
    def computed(
        cls, file: Path, network: Any, images: Arrays, count: int, report: Callable[[float], None],
        dtype: type[np.floating[Any]] = np.float32,
    ) -> Features:  # fmt: skip
        """From the file, if an earlier attempt has made it. Calls `report` with the share that is done.

        A file with rows of another shape, such as those of images of another size, is made again.
        """
        shape = (count, *network.output_shape[1:])
        if _shape_in(file) != (shape, np.dtype(dtype)):
            compute = tf.function(lambda batch: network(batch, training=False), reduce_retracing=True, autograph=False)
            with written_aside(file) as aside:
                rows = np.lib.format.open_memmap(aside, "w+", dtype, shape)
                with aside.open("r+b") as opened:  # without room, an error now instead of a signal while writing
                    os.posix_fallocate(opened.fileno(), 0, aside.stat().st_size)
                for begin in range(0, count, BATCH):
                    indices = np.arange(begin, min(begin + BATCH, count))
                    rows[indices] = compute(images.batch(indices).astype(np.float32))
                    report(begin / count)
                rows.flush()
        return cls(file)

    def batch(self, indices: Array) -> Array:
        return np.array(self._rows[indices])


def _shape_in(file: Path) -> tuple[tuple[int, ...], np.dtype[Any]] | None:
    """Shape and type of the rows in a file; None if it is missing or damaged."""
    try:
        rows = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return rows.shape, rows.dtype


class JoinedArrays:
    """Several arrays of the same images, one after the other: position `count + n` is the second version of image n."""

    def __init__(self, parts: Sequence[Arrays], count: int) -> None:
        self.shape, self.dtype = parts[0].shape, parts[0].dtype
        self._parts, self._count = parts, count

    def batch(self, indices: Array) -> Array:
        """(len(indices), *shape)."""
        rows = np.empty((len(indices), *self.shape), self.dtype)
        for number, part in enumerate(self._parts):
            mine = np.flatnonzero(indices // self._count == number)
            rows[mine] = part.batch(indices[mine] - number * self._count)
        return rows


class Changed:
    """Images of a store, each randomly changed in the same way whenever it is read."""

    def __init__(self, images: Arrays, augment: Augment, seed: int) -> None:
        self.shape, self.dtype = images.shape, images.dtype
        self._images, self._augment, self._seed = images, augment, seed

    def batch(self, indices: Array) -> Array:
        """(len(indices), height, width, 3) float32 of 0 to 255."""
        images = tf.constant(self._images.batch(indices), tf.float32)
        seed = tf.constant([self._seed, int(indices[0]) if len(indices) else 0])
        moved = move(images, self._augment.moves(images, seed), smooth=True)
        return np.asarray(self._augment.lighten(moved, seed + 1))
