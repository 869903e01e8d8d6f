"""Images that look the same although their files differ: saved again, made smaller, slightly changed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from tfserve.tensors import Array
from tfserve.training.findings import ImageFile
from tfserve.training.images import Look

MOST_BITS = 9
"""Bits of 64 in which the perceptual hashes of two such images may differ."""
MOST_UNEXPLAINED = 0.003
"""Share of an image's variance that another one may leave unexplained. JPEG of quality 60 leaves 0.0003 of photographs
of solar cells; different cells on a panel leave 0.004 and more."""
MOST_COLOUR = 0.15
"""Root mean square of the difference of the colours, in units of the images' contrast."""
LEAST_CONTRAST = 4.0
"""Images without any contrast look alike whatever they show."""
MOST_COMPARED = 64
"""Images that are compared with one image: those with the nearest hashes."""
_BORDER = 2
"""Pixels that are not compared: the other image may have been cut off there."""


def find(images: Sequence[ImageFile], looks: Mapping[str, Look]) -> list[list[int]]:
    """Groups of places in `images`, two or more in each. Every image looks like the first of its group.

    Groups are not joined by a third image that is like both: a film would become one group.
    """
    hashes = np.array([looks[image.path].hash for image in images], np.uint64)
    details = np.stack([np.frombuffer(looks[image.path].detail, np.uint8) for image in images])
    thumbnails = np.stack([np.frombuffer(looks[image.path].thumbnail, np.uint8) for image in images])
    is_free = details.std(axis=1) >= LEAST_CONTRAST
    groups = []
    for place in range(len(images) - 1):
        if not is_free[place]:
            continue
        bits = np.bitwise_count(hashes[place + 1 :] ^ hashes[place])
        near = place + 1 + np.flatnonzero((bits <= MOST_BITS) & is_free[place + 1 :])
        near = near[np.argsort(bits[near - place - 1], kind="stable")][:MOST_COMPARED]
        if len(near):
            near = near[_unexplained(details[place], details[near]) <= MOST_UNEXPLAINED]
        alike = np.sort(near[_colour_difference(thumbnails[place], thumbnails[near]) <= MOST_COLOUR])
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


def _unexplained(one: Array, others: Array) -> Array:
    """For each of the others, (count, pixels), the share of its variance that the one does not explain.

    Brightness and contrast may differ, and the image may be cut off a little: a shift and a scale of up to a pixel are
    the sum of the image and multiples of its derivatives.
    """
    image, images = _blurred(one[None])[0], _blurred(others)
    down, right = np.gradient(image)
    y, x = (axis / (len(image) - 1) - 0.5 for axis in np.mgrid[: len(image), : len(image)])
    parts = (np.ones_like(image), image, down, right, down * y, right * x)
    basis = np.linalg.qr(np.stack([_inner(part).ravel() for part in parts], axis=1))[0]
    values = _inner(images).reshape(len(others), -1)
    values -= values.mean(axis=1, keepdims=True)
    variance = np.square(values).sum(axis=1)
    return np.asarray(1 - np.square(values @ basis).sum(axis=1) / np.maximum(variance, 1e-6))


def _colour_difference(one: Array, others: Array) -> Array:
    """For each of the others, (count, values of RGB), how far its colours are from those of the one."""
    colour, colours = _colour(one[None]), _colour(others)
    return np.asarray(np.sqrt(np.square(colours - colour).mean(axis=(1, 2, 3))))


def _colour(thumbnails: Array) -> Array:
    """What is not grey, relative to the contrast: brightness and contrast may differ."""
    values = thumbnails.astype(np.float32)
    contrast = np.maximum(values.std(axis=1), 1.0)[:, None, None, None]
    side = math.isqrt(values.shape[1] // 3)
    pixels = values.reshape(-1, side, side, 3)
    return np.asarray((pixels - pixels.mean(axis=3, keepdims=True)) / contrast)


def _blurred(details: Array) -> Array:
    """(count, side, side): each pixel with its neighbours, which hides what compression adds."""
    side = math.isqrt(details.shape[1])
    padded = np.pad(details.reshape(-1, side, side).astype(np.float32), ((0, 0), (1, 1), (1, 1)), mode="edge")
    rows = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    return np.asarray((rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:]) / 16)


def _inner(images: Array) -> Array:
    return images[..., _BORDER:-_BORDER, _BORDER:-_BORDER]
