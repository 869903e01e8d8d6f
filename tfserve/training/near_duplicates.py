"""Images that look the same although their files differ: saved again, made smaller, slightly changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from tfserve.tensors import Array
from tfserve.training.findings import ImageFile
from tfserve.training.images import Look

MOST_BITS = 6
"""Bits of 64 in which the perceptual hashes of two such images may differ."""
LEAST_CORRELATION = 0.995
MOST_DIFFERENCE = 8.0
"""Mean difference of the thumbnails, in values of 0 to 255."""
LEAST_CONTRAST = 4.0
"""Images without any contrast look alike whatever they show."""
MOST_COMPARED = 200
"""Thumbnails that are compared with one image: those with the nearest hashes."""


def find(images: Sequence[ImageFile], looks: Mapping[str, Look]) -> list[list[int]]:
    """Groups of places in `images`, two or more in each. Every image looks like the first of its group.

    Groups are not joined by a third image that is like both: a film would become one group.
    """
    hashes = np.array([looks[image.path].hash for image in images], np.uint64)
    thumbnails = np.stack([np.frombuffer(looks[image.path].thumbnail, np.uint8) for image in images])
    is_free = thumbnails.std(axis=1) >= LEAST_CONTRAST
    groups = []
    for place in range(len(images) - 1):
        if not is_free[place]:
            continue
        bits = np.bitwise_count(hashes[place + 1 :] ^ hashes[place])
        near = place + 1 + np.flatnonzero((bits <= MOST_BITS) & is_free[place + 1 :])
        near = near[np.argsort(bits[near - place - 1], kind="stable")][:MOST_COMPARED]
        alike = np.sort(near[_look_alike(thumbnails[place], thumbnails[near])])
        if len(alike):
            is_free[alike] = False
            groups.append([place, *alike.tolist()])
    return groups


def grouped(images: Sequence[ImageFile], groups: Sequence[Sequence[int]]) -> list[ImageFile]:
    """The images, those that look alike in one `group` unless they have another already."""
    result = list(images)
    for places in groups:
        name = next((images[place].group for place in places if images[place].group), images[places[0]].path)
        for place in places:
            if not images[place].group:
                result[place] = msgspec.structs.replace(images[place], group=name)
    return result


def _look_alike(one: Array, others: Array) -> Array:
    """For each of the others, (count, values), whether it looks like the one."""
    one, others = one.astype(np.float32), others.astype(np.float32)
    difference = np.abs(others - one).mean(axis=1)
    centred, other_centred = one - one.mean(), others - others.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred) * np.linalg.norm(other_centred, axis=1)
    correlation = other_centred @ centred / np.maximum(length, 1e-6)
    return np.asarray((difference <= MOST_DIFFERENCE) & (correlation >= LEAST_CORRELATION))
