"""Batches for Keras from stores of pixels. Images are float32 of 0 to 255."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from tfserve.tensors.specs import Array
from tfserve.training.fit.augment import Augment, move

Targets = Callable[[Array], Array]
"""From positions of images to their training targets."""


class Arrays(Protocol):
    """Many arrays of one shape and numpy type."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> Any: ...

    def batch(self, indices: Array) -> Array: ...


@dataclass(frozen=True)
class ImageSource:
    """Images, or their features, with targets of shape `target_shape`: () for labels, (height, width) for masks."""

    inputs: Arrays
    targets: Targets
    target_shape: tuple[int, ...] = ()
    target_type: Any = np.int32

    def fetch(self, indices: Array) -> tuple[Array, Array]:
        return self.inputs.batch(indices), np.asarray(self.targets(indices), self.target_type)


def plain(source: ImageSource, indices: Array, batch_size: int, threads: int) -> Any:
    """Batches in the order of the positions."""
    return batches_of(source, tf.data.Dataset.from_tensor_slices(indices), batch_size, threads).prefetch(2)


def shuffled(
    source: ImageSource, indices: Array, batch_size: int, threads: int, *, seed: int, augment: Augment | None
) -> Any:
    """Batches in another order each epoch, with random changes; all of it follows from the seed.

    The last batch of an epoch is left out when it is not full, because small batches disturb batch normalisation.
    """
    order = tf.data.Dataset.from_tensor_slices(indices).shuffle(len(indices), seed=seed, reshuffle_each_iteration=True)
    batches = batches_of(source, order, batch_size, threads, drop_remainder=len(indices) >= batch_size)
    if augment is None:
        return batches.prefetch(2)
    seeds = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True).batch(2)
    change = _changing_both if source.target_shape else _changing_images
    return tf.data.Dataset.zip(batches, seeds).map(change(augment), num_parallel_calls=threads).prefetch(2)


def batches_of(
    source: ImageSource, indices: Any, batch_size: int, threads: int, *, drop_remainder: bool = False
) -> Any:
    """`indices` is a data set of positions."""

    def fetch(batch: Any) -> tuple[Any, Any]:
        types = [tf.as_dtype(source.inputs.dtype), tf.as_dtype(source.target_type)]
        inputs, targets = tf.numpy_function(source.fetch, [batch], types)
        inputs.set_shape((None, *source.inputs.shape))
        targets.set_shape((None, *source.target_shape))
        return tf.cast(inputs, tf.float32), targets

    options = tf.data.Options()
    options.threading.private_threadpool_size = threads
    batches = indices.batch(batch_size, drop_remainder=drop_remainder).map(fetch, num_parallel_calls=threads)
    return batches.with_options(options)


def _changing_images(augment: Augment) -> Callable[[Any, Any], Any]:
    def change(batch: Any, seed: Any) -> tuple[Any, Any]:
        images, labels = batch
        moved = move(images, augment.moves(images, seed), smooth=True)
        return augment.lighten(moved, seed + 1), labels

    return change


def _changing_both(augment: Augment) -> Callable[[Any, Any], Any]:
    def change(batch: Any, seed: Any) -> tuple[Any, Any]:
        images, masks = batch
        moves = augment.moves(images, seed)
        moved = move(images, moves, smooth=True)
        moved_masks = move(masks[..., tf.newaxis], moves, smooth=False)[..., 0]
        return augment.lighten(moved, seed + 1), moved_masks

    return change


def labels_of(labels: Sequence[int]) -> Targets:
    known = np.asarray(labels, np.int32)
    return lambda indices: known[indices]
