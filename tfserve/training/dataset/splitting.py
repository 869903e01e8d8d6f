"""Chooses some of the images: those that decide when a training stops, or a few that represent all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from tfserve.tensors.specs import Array
from tfserve.training.dataset.dataset_index import ImageFile

MIN_TO_SELECT = 10
"""A class gives selection images when it has this many to learn from."""
MIN_SELECTION = 8
"""With fewer selection images in total, none are used."""
SELECTION_SHARE = 0.1


def aside(labels: Array, training: Array, seed: int) -> tuple[Array, Array]:
    """Takes selection images from the classes that have enough; (what is left to learn from, selection).

    A small class gives none, and does not prevent the others from it.
    """
    random = np.random.default_rng(seed)
    taken = []
    for label in np.unique(labels[training]):
        members = random.permutation(training[labels[training] == label])
        if len(members) >= MIN_TO_SELECT:
            taken.append(members[: round(len(members) * SELECTION_SHARE)])
    selection = np.sort(np.concatenate([*taken, training[:0]]))
    if len(selection) < MIN_SELECTION:
        return training, training[:0]
    return np.setdiff1d(training, selection), selection


def spread(indices: Array, at_most: int) -> Array:
    """A number of positions, evenly spread over all."""
    chosen = np.linspace(0, len(indices) - 1, min(at_most, len(indices))).astype(int)
    return np.asarray(indices[chosen])


def rarest_labels(found: Sequence[ImageFile]) -> list[int]:
    """For each image its class with the fewest objects in all images, so that a split gives both sides some of each.

    Classes that are the rarest of fewer than two images, and images without objects, are -1.
    """
    counts = np.bincount([box.label for image in found for box in image.boxes], minlength=1)
    rarest = [min((box.label for box in image.boxes), key=lambda label: counts[label], default=-1) for image in found]
    images_with = Counter(rarest)
    return [label if images_with[label] > 1 else -1 for label in rarest]
