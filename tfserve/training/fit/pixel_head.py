"""Pixels with the features of a known network, and a linear head that is solved on them.

A few hundred pixels of each image are enough, if every class gives some. Between the positions of a map, features are
interpolated, as the head's outputs are when they are enlarged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tfserve.tensors.specs import Array
from tfserve.training.fit import linear_head
from tfserve.training.fit.batches import Arrays
from tfserve.training.fit.efficientnet_lite import STRIDES
from tfserve.training.fit.linear_head import HeadWeights
from tfserve.training.fit.unet import IGNORED

MAX_PIXELS = 16_000
"""In all images; a head is solved in about a second then."""
LEAST_PER_IMAGE, MOST_PER_IMAGE = 32, 500
PENALTIES = (0.03, 0.003, 0.0003)

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Pixels:
    """`features` (pixels, channels of all maps), `labels` (pixels), `image` (pixels): the image that each is from.

    `shares` (pixels): how many of its image's pixels each represents.
    """

    features: Array
    labels: Array
    image: Array
    shares: Array

    def of(self, indices: Array) -> Pixels:
        """Those of some images."""
        chosen = np.isin(self.image, indices)
        return Pixels(self.features[chosen], self.labels[chosen], self.image[chosen], self.shares[chosen])


def sample(rows: Arrays, masks: Arrays, shapes: Sequence[Shape], *, count: int, seed: int) -> Pixels:
    """From the rows and masks of `count` images, about as many pixels of each class that is in an image."""
    at_most = int(np.clip(MAX_PIXELS // count, LEAST_PER_IMAGE, MOST_PER_IMAGE))
    features, labels, image, shares = [], [], [], []
    for index in range(count):
        mask = masks.batch(np.array([index]))[0]
        positions, share = chosen_pixels(mask, at_most, np.random.default_rng((seed, index)))
        features.append(interpolated(rows.batch(np.array([index]))[0], shapes, positions))
        labels.append(mask[positions[:, 0], positions[:, 1]].astype(int))
        image.append(np.full(len(positions), index))
        shares.append(share)
    return Pixels(*(np.concatenate(each) for each in (features, labels, image, shares)))


def chosen_pixels(mask: Array, at_most: int, random: np.random.Generator) -> tuple[Array, Array]:
    """Positions (pixels, 2) of row and column, and how many pixels each of them represents."""
    classes = np.unique(mask)
    classes = classes[classes != IGNORED]
    positions, shares = [np.zeros((0, 2), int)], [np.zeros(0)]
    for label in classes:
        known = np.argwhere(mask == label)
        count = min(len(known), max(1, at_most // len(classes)))
        positions.append(known[random.choice(len(known), count, replace=False)])
        shares.append(np.full(count, len(known) / count))
    return np.concatenate(positions), np.concatenate(shares)


def interpolated(row: Array, shapes: Sequence[Shape], positions: Array) -> Array:
    """(pixels, channels of all maps) float32 at these pixels, from a row of maps."""
    found, begin = [], 0
    for stride, shape in zip(STRIDES, shapes, strict=True):
        end = begin + math.prod(shape)
        found.append(_bilinear(row[begin:end].reshape(shape), (positions + 0.5) / stride - 0.5))
        begin = end
    return np.concatenate(found, axis=1).astype(np.float32)


def _bilinear(level: Array, at: Array) -> Array:
    """The values of a map (height, width, channels) at positions between its own."""
    at = np.clip(at, 0, np.array(level.shape[:2]) - 1)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, np.array(level.shape[:2]) - 1)
    down, right = (at - low).T[:, :, np.newaxis]
    upper = level[low[:, 0], low[:, 1]] * (1 - right) + level[low[:, 0], high[:, 1]] * right
    lower = level[high[:, 0], low[:, 1]] * (1 - right) + level[high[:, 0], high[:, 1]] * right
    return np.asarray(upper * (1 - down) + lower * down)


def solve(pixels: Pixels, class_weights: Array, *, penalties: Sequence[float] = PENALTIES) -> list[HeadWeights]:
    """A head for each penalty."""
    return linear_head.heads(
        pixels.features, pixels.labels, len(class_weights), weights=pixels.shares * class_weights[pixels.labels],
        penalties=penalties,
    )  # fmt: skip
