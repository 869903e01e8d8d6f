"""A U-Net: down by halves and up again, with what was seen on the way down beside it. And the loss for segmentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

MAX_DEPTH = 4
GROWTH = 1.5
"""So many times the filters after each halving. Twice as many would take more than twice the time, to little use."""
SMALLEST_SIDE = 8
IGNORED = 255
"""The class number of pixels that belong to no class."""


def depth_for(size: tuple[int, int]) -> int:
    """How often the image is halved."""
    depth = 0
    while depth < MAX_DEPTH and min(size) >> (depth + 1) >= SMALLEST_SIDE:
        depth += 1
    return depth


def unet(size: tuple[int, int], classes: int, *, filters: int) -> Any:
    """Takes RGB images as float32 of 0 to 255, of a size that can be halved `depth_for(size)` times.

    Gives logits (count, height, width, classes).
    """
    layers = keras.layers
    inputs = keras.Input((*size, 3), name="images")
    x = layers.Rescaling(1 / 127.5, -1.0)(inputs)
    beside = []
    widths = _widths(size, filters)
    for width in widths[:-1]:
        x = _double_convolution(x, width)
        beside.append(x)
        x = layers.MaxPooling2D()(x)
    x = _double_convolution(x, widths[-1])
    for width, seen in zip(widths[-2::-1], reversed(beside), strict=True):
        x = layers.Conv2DTranspose(width, 2, strides=2)(x)
        x = _double_convolution(layers.Concatenate()([seen, x]), width)
    return keras.Model(inputs, layers.Conv2D(classes, 1, name="logits")(x), name="unet")


def macs(size: tuple[int, int], *, filters: int) -> float:
    """Multiplications and additions of the U-Net for one image."""
    widths, pixels, before, total = _widths(size, filters), size[0] * size[1], 3, 0.0
    for level, width in enumerate(widths):
        there = pixels / 4**level
        total += there * 9 * width * (before + width)
        if level + 1 < len(widths):  # on the way up: enlarged, joined, convolved twice
            total += there * width * (widths[level + 1] + 9 * 3 * width)
        before = width
    return total


def _widths(size: tuple[int, int], filters: int) -> list[int]:
    return [8 * round(filters * GROWTH**level / 8) or filters for level in range(depth_for(size) + 1)]


def cross_entropy_with_dice(classes: int, dice_weight: float, class_weights: Sequence[float] | None = None) -> Any:
    """The loss: cross-entropy of each pixel, and how badly each class overlaps (1 - Dice, the background too).

    `class_weights` says how much a pixel of each class counts in the cross-entropy. Pixels that are `IGNORED` count in
    neither.
    """
    ops = keras.ops
    weight_of = np.ones(classes, np.float32) if class_weights is None else np.asarray(class_weights, np.float32)

    def loss(masks: Any, logits: Any) -> Any:
        known = ops.one_hot(ops.cast(masks, "int32"), classes)  # all 0 where the class is ignored
        counted = ops.sum(known, axis=-1)
        chances = ops.softmax(logits) * counted[..., None]
        each = keras.losses.categorical_crossentropy(known, logits, from_logits=True) * ops.sum(
            known * weight_of, axis=-1
        )
        entropy = ops.sum(each, axis=(1, 2)) / ops.maximum(ops.sum(counted, axis=(1, 2)), 1.0)
        overlap = ops.sum(known * chances, axis=(0, 1, 2))
        both = ops.sum(known, axis=(0, 1, 2)) + ops.sum(chances, axis=(0, 1, 2))
        dice = 1.0 - ops.mean((2.0 * overlap + 1.0) / (both + 1.0))
        return (1.0 - dice_weight) * entropy + dice_weight * dice

    return loss


def pixel_accuracy(masks: Any, logits: Any) -> Any:
    """The share of the pixels, without those that are `IGNORED`, whose class is right."""
    ops = keras.ops
    counted = ops.cast(ops.not_equal(masks, IGNORED), "float32")
    right = ops.cast(ops.equal(ops.cast(masks, "int32"), ops.cast(ops.argmax(logits, axis=-1), "int32")), "float32")
    return ops.sum(right * counted) / ops.maximum(ops.sum(counted), 1.0)


def _double_convolution(x: Any, filters: int) -> Any:
    for _ in range(2):
        x = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        x = keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=0.9)(x))
    return x
