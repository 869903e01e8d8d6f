"""One split of the images: which are learnt from, which choose when to stop, and which only measure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tfserve.tensors import Array
from tfserve.training.findings import ImageFile
from tfserve.training.folds import divide

MIN_TO_SELECT = 10
"""A class gives selection images when it has this many to learn from."""
MIN_SELECTION = 8
"""With fewer selection images in all there are none."""
SELECTION_SHARE = 0.1


@dataclass(frozen=True)
class Split:
    """Positions in the index of images, sorted. `selection` is `held_out` itself where there are too few images."""

    training: Array
    selection: Array
    held_out: Array

    @property
    def is_honest(self) -> bool:
        """Whether nothing was chosen by the held-out images."""
        return self.selection is not self.held_out


def split(images: Sequence[ImageFile], share: float, seed: int) -> Split:
    """Holds out the project's own test part, else its validation part, else about a share of each label."""
    folds = divide(images, share, seed)
    first = folds.folds[0]
    labels = np.array([image.label for image in images])
    if len(folds.test) and folds.has_validation:
        return Split(first.training, first.held_out, folds.test)
    held_out = folds.test if len(folds.test) else first.held_out
    training, selection = aside(labels, folds.development if len(folds.test) else first.training, seed)
    return Split(training, selection if len(selection) else held_out, held_out)


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


def spread(places: Array, at_most: int) -> Array:
    """So many of the places, evenly spread over all."""
    chosen = np.linspace(0, len(places) - 1, min(at_most, len(places))).astype(int)
    return np.asarray(places[chosen])
