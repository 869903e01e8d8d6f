"""What a known network sees in each image: computed once, kept in a file between attempts."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfserve.tensors import Array
from tfserve.training.augment import Augment, move
from tfserve.training.datasets import Arrays
from tfserve.training.writing import written_aside

BATCH = 32


class Features:
    """What a network makes of each image, in a file of which only what is needed is read."""

    def __init__(self, file: Path) -> None:
        self._rows = np.load(file, mmap_mode="r", allow_pickle=False)
        self.shape: tuple[int, ...] = self._rows.shape[1:]
        self.dtype = self._rows.dtype

    @classmethod
    def computed(
        cls, file: Path, network: Any, images: Arrays, count: int, told: Callable[[float], None],
        dtype: type[np.floating[Any]] = np.float32,
    ) -> Features:  # fmt: skip
        """From the file, if an earlier attempt has made it. Calls `told` with the share that is done."""
        if not file.is_file():
            compute = tf.function(lambda batch: network(batch, training=False), reduce_retracing=True)
            with written_aside(file) as aside:
                rows = np.lib.format.open_memmap(aside, "w+", dtype, (count, *network.output_shape[1:]))
                with aside.open("r+b") as opened:  # without room, an error now instead of a signal while writing
                    os.posix_fallocate(opened.fileno(), 0, aside.stat().st_size)
                for begin in range(0, count, BATCH):
                    places = np.arange(begin, min(begin + BATCH, count))
                    rows[places] = compute(images.batch(places).astype(np.float32))
                    told(begin / count)
                rows.flush()
        return cls(file)

    def batch(self, places: Array) -> Array:
        return np.array(self._rows[places])


class Joined:
    """Several arrays of the same images, one after the other: position `count + n` is the second version of image n."""

    def __init__(self, parts: Sequence[Arrays], count: int) -> None:
        self.shape, self.dtype = parts[0].shape, parts[0].dtype
        self._parts, self._count = parts, count

    def batch(self, places: Array) -> Array:
        """(len(places), *shape)."""
        rows = np.empty((len(places), *self.shape), self.dtype)
        for number, part in enumerate(self._parts):
            mine = np.flatnonzero(places // self._count == number)
            rows[mine] = part.batch(places[mine] - number * self._count)
        return rows


class Changed:
    """Images of a store, each randomly changed in the same way whenever it is read."""

    def __init__(self, images: Arrays, augment: Augment, seed: int) -> None:
        self.shape, self.dtype = images.shape, images.dtype
        self._images, self._augment, self._seed = images, augment, seed

    def batch(self, places: Array) -> Array:
        """(len(places), height, width, 3) float32 of 0 to 255."""
        images = tf.constant(self._images.batch(places), tf.float32)
        seed = tf.constant([self._seed, int(places[0]) if len(places) else 0])
        moved = move(images, self._augment.moves(images, seed), smooth=True)
        return np.asarray(self._augment.lighten(moved, seed + 1))
