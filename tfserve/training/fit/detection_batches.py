"""Batches for a detector: images float32 of 0 to 255, and their boxes, which every random change moves along.

Boxes are (count, n, 5): class number, left, top, right, bottom in pixels of the network's size. Rows that fill up the
list have the class `PADDING`, crowds the class `CROWD`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfserve.tensors.specs import Array
from tfserve.training.dataset.box_checks import MAX_OBJECTS
from tfserve.training.dataset.dataset_index import ImageFile
from tfserve.training.dataset.decoded_images import Store
from tfserve.training.fit.augment import Augment, move
from tfserve.training.fit.batches import ImageSource, batches_of
from tfserve.training.fit.detection_loss import CROWD, PADDING

SURPLUS_GRID = 4
"""Surplus boxes become crowds: at most one in each cell of a grid with this number of rows and columns."""
MIN_ROWS, MAX_ROWS = 8, MAX_OBJECTS + SURPLUS_GRID**2
"""Boxes of an image, or of a mosaic of four."""
LEAST_SEEN = 0.35
"""A box with a smaller share inside the image is dropped."""
MOSAIC_SHARE = 0.5


class Boxes:
    """The boxes of all images, scaled to the network's size."""

    def __init__(self, images: Sequence[ImageFile], size: tuple[int, int]) -> None:
        most = max(len(image.boxes) for image in images)
        self.rows = int(np.clip(4 * most, MIN_ROWS, MAX_ROWS))
        self._values = [_without_surplus(_scaled(image, size), size) for image in images]

    def batch(self, indices: Array) -> Array:
        """(len(indices), rows, 5) float32."""
        filled = np.full((len(indices), self.rows, 5), PADDING, np.float32)
        for target, index in zip(filled, indices, strict=True):
            values = self._values[index]
            target[: len(values)] = values
        return filled


def plain(pictures: Store, boxes: Boxes, indices: Array, batch_size: int, threads: int) -> Any:
    """Batches in the order of the positions."""
    return batches_of(
        _source(pictures, boxes), tf.data.Dataset.from_tensor_slices(indices), batch_size, threads
    ).prefetch(2)


def shuffled(
    pictures: Store, boxes: Boxes, indices: Array, batch_size: int, threads: int, *, seed: int, augment: Augment,
    mosaic: bool,
) -> Any:  # fmt: skip
    """Full batches in another order each epoch, with random changes; all of it follows from the seed."""
    order = tf.data.Dataset.from_tensor_slices(indices).shuffle(len(indices), seed=seed, reshuffle_each_iteration=True)
    batches = batches_of(
        _source(pictures, boxes), order, batch_size, threads, drop_remainder=len(indices) >= batch_size
    )
    seeds = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True).batch(2)

    def change(batch: Any, seed: Any) -> tuple[Any, Any]:
        images, known = batch
        if mosaic:
            chance = tf.random.stateless_uniform((), seed + 7)
            images, known = tf.cond(
                chance < MOSAIC_SHARE, lambda: mosaics(images, known, seed + 8), lambda: (images, known)
            )
        moves = augment.moves(images, seed)
        moved = augment.lighten(move(images, moves, smooth=True), seed + 1)
        return moved, moved_boxes(known, moves, images.shape[1:3])

    return tf.data.Dataset.zip(batches, seeds).map(change, num_parallel_calls=threads).prefetch(2)


def moved_boxes(known: Any, moves: Any, size: tuple[int, int]) -> Any:
    """Where the boxes are after `augment.move`, cut at the edges; those that have left the image are padding.

    `moves` leads from a point of the new image to one of the old: in = A out + c. So out = A⁻¹ (in - c).
    """
    a, b, c, d, e, f = (moves[:, number, tf.newaxis, tf.newaxis] for number in range(6))
    x = tf.gather(known, [1, 3, 1, 3], axis=-1) - c - 0.5
    y = tf.gather(known, [2, 2, 4, 4], axis=-1) - f - 0.5
    determinant = a * e - b * d
    new_x, new_y = (e * x - b * y) / determinant + 0.5, (a * y - d * x) / determinant + 0.5
    moved = tf.stack(
        [tf.reduce_min(new_x, -1), tf.reduce_min(new_y, -1), tf.reduce_max(new_x, -1), tf.reduce_max(new_y, -1)], -1
    )
    return cut(tf.concat([known[..., :1], moved], axis=-1), size)


def cut(known: Any, size: tuple[int, int]) -> Any:
    """Boxes without what lies outside of the image (height, width)."""
    limits = tf.constant([size[1], size[0], size[1], size[0]], tf.float32)
    inside = tf.clip_by_value(known[..., 1:], 0.0, limits)
    share = _area(inside) / tf.maximum(_area(known[..., 1:]), 1e-6)
    sides = inside[..., 2:] - inside[..., :2]
    is_seen = ((share >= LEAST_SEEN) | (known[..., 0] == CROWD)) & (tf.reduce_min(sides, axis=-1) >= 1.0)
    return tf.where(is_seen[..., tf.newaxis], tf.concat([known[..., :1], inside], axis=-1), PADDING)


def mosaics(images: Any, known: Any, seed: Any) -> tuple[Any, Any]:
    """For each image of a batch a part of four images side by side, as large as one to all of them.

    Where such a part has more boxes than fit into the list, the image stays as it is.
    """
    count, (height, width) = tf.shape(images)[0], images.shape[1:3]
    tiles = [tf.roll(images, number, axis=0) for number in range(4)]
    canvas = tf.concat([tf.concat(tiles[:2], axis=2), tf.concat(tiles[2:], axis=2)], axis=1)
    offsets = [[0, x, y, x, y] for y in (0, height) for x in (0, width)]
    moved = [tf.roll(known, number, axis=0) + tf.constant(by, tf.float32) for number, by in enumerate(offsets)]
    boxes = tf.concat([tf.where(each[..., :1] > PADDING / 2, each, PADDING) for each in moved], axis=1)
    zoom, across, down = tf.unstack(tf.random.stateless_uniform((3, count), seed))
    scale, zero = 1.0 + zoom, tf.zeros(count)
    moves = tf.stack(
        [scale, zero, across * (2.0 - scale) * width, zero, scale, down * (2.0 - scale) * height, zero, zero], axis=1
    )
    part = tf.raw_ops.ImageProjectiveTransformV3(
        images=canvas, transforms=moves, output_shape=(height, width), fill_value=0.0, interpolation="BILINEAR",
        fill_mode="NEAREST",
    )  # fmt: skip
    part.set_shape(images.shape)
    boxes = moved_boxes(boxes, moves, (height, width))
    fits = tf.reduce_sum(tf.cast(boxes[..., 0] > PADDING / 2, tf.int32), axis=1) <= known.shape[1]
    _, order = tf.math.top_k(boxes[..., 0], known.shape[1])
    return (
        tf.where(fits[:, tf.newaxis, tf.newaxis, tf.newaxis], part, images),
        tf.where(fits[:, tf.newaxis, tf.newaxis], tf.gather(boxes, order, axis=1, batch_dims=1), known),
    )


def _source(pictures: Store, boxes: Boxes) -> ImageSource:
    return ImageSource(pictures, boxes.batch, (boxes.rows, 5), np.float32)


def _scaled(image: ImageFile, size: tuple[int, int]) -> Array:
    values = np.array([
        (CROWD if box.crowd else box.label, box.left, box.top, box.right, box.bottom) for box in image.boxes
    ], np.float32).reshape(-1, 5)  # fmt: skip
    across, down = size[1] / image.width, size[0] / image.height
    values[:, 1:] *= np.array([across, down, across, down], np.float32)
    largest_first = np.argsort(-(values[:, 3] - values[:, 1]) * (values[:, 4] - values[:, 2]), kind="stable")
    return np.asarray(values[largest_first])


def _without_surplus(values: Array, size: tuple[int, int]) -> Array:
    """The first boxes, and crowds around the others: what is not learnt is not learnt as background either."""
    kept, surplus = values[:MAX_OBJECTS], values[MAX_OBJECTS:]
    if not len(surplus):
        return kept
    middles = (surplus[:, 1:3] + surplus[:, 3:]) / 2
    cells = np.clip(middles * SURPLUS_GRID / (size[1], size[0]), 0, SURPLUS_GRID - 1).astype(int)
    numbers = cells[:, 1] * SURPLUS_GRID + cells[:, 0]
    crowds = [
        [CROWD, *boxes[:, 1:3].min(axis=0), *boxes[:, 3:].max(axis=0)]
        for boxes in (surplus[numbers == number] for number in np.unique(numbers))
    ]
    return np.concatenate([kept, np.array(crowds, np.float32)])


def _area(boxes: Any) -> Any:
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
