"""Which images are learnt from, which choose the best epoch, and which only measure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tfserve.tensors import Array

MIN_TO_SELECT = 20
"""Images of the smallest class to learn from, so that some can be put aside to choose the best epoch."""
SELECTION_SHARE = 0.1


@dataclass(frozen=True)
class Split:
    """Places in the index of images, sorted. `selection` is `held_out` itself where there are too few images."""

    training: Array
    selection: Array
    held_out: Array

    @property
    def is_honest(self) -> bool:
        """Whether nothing was chosen by the held-out images."""
        return self.selection is not self.held_out


def split(labels: Sequence[int], share: float, seed: int) -> Split:
    """Holds out a share of each label, one image at least; the same for the same labels and seed."""
    random = np.random.default_rng(seed)
    training, held_out = _divide(np.arange(len(labels)), np.asarray(labels), share, random)
    if _smallest(np.asarray(labels)[training]) < MIN_TO_SELECT:
        return Split(training, held_out, held_out)
    training, selection = _divide(training, np.asarray(labels)[training], SELECTION_SHARE, random)
    return Split(training, selection, held_out)


def spread(places: Array, at_most: int) -> Array:
    """So many of the places, evenly spread over all."""
    chosen = np.linspace(0, len(places) - 1, min(at_most, len(places))).astype(int)
    return np.asarray(places[chosen])


def _divide(places: Array, labels: Array, share: float, random: np.random.Generator) -> tuple[Array, Array]:
    kept, taken = [], []
    for label in np.unique(labels):
        members = random.permutation(places[labels == label])
        number = int(np.clip(round(len(members) * share), 1, len(members) - 1))
        taken.append(members[:number])
        kept.append(members[number:])
    return np.sort(np.concatenate(kept)), np.sort(np.concatenate(taken))


def _smallest(labels: Array) -> int:
    return int(np.unique(labels, return_counts=True)[1].min())
