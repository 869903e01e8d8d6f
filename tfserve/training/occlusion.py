"""Which parts of an image a classifier's answer depends on: parts are covered, and the loss of probability is drawn."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tfserve.tensors import Array

STEPS = 8
"""Positions of the cover along each side."""
COVER = 0.25
"""Side of the cover, as a share of the image's."""

Compute = Callable[[Array], Array]
"""From images (count, height, width, 3) to probabilities (count, classes)."""


def sensitivity(compute: Compute, image: Array, label: int) -> Array:
    """(STEPS, STEPS) float32: how much probability `label` loses when the cover is there. Negative: it gains.

    `image` is (height, width, 3). The cover has the image's mean colour.
    """
    height, width = image.shape[:2]
    covered = np.repeat(image[np.newaxis].astype(np.float32), STEPS * STEPS + 1, axis=0)
    mean = image.reshape(-1, image.shape[-1]).mean(axis=0)
    tall, wide = max(1, round(COVER * height)), max(1, round(COVER * width))
    tops = np.linspace(0, height - tall, STEPS).round().astype(int)
    lefts = np.linspace(0, width - wide, STEPS).round().astype(int)
    for row, top in enumerate(tops):
        for column, left in enumerate(lefts):
            covered[row * STEPS + column, top : top + tall, left : left + wide] = mean
    probabilities = compute(covered)[:, label]
    return np.asarray(probabilities[-1] - probabilities[:-1], np.float32).reshape(STEPS, STEPS)
