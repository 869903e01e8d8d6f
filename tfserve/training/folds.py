"""Selection folds: which images each candidate learns from and which measure it, and what the delivered model learns.

    no split of the project's own      repeated stratified folds over all images
    a `validation` part                one fold: trained on the rest, measured on that part
    a `test` part                      never learnt from: the delivered model is measured on it

Images of one group stay on the same side of every fold. Where some images are called `train` and the others have no
part, the former are learnt from in every fold and never held out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tfserve.tensors import Array
from tfserve.training.findings import ImageFile

MIN_FOLDS, MAX_FOLDS = 2, 10
REPETITIONS = ((60, 4), (200, 2))
"""Fewer than this many images are divided this many times, so that chance decides less."""


@dataclass(frozen=True)
class Fold:
    """Positions in the index of images, sorted."""

    training: Array
    held_out: Array


@dataclass(frozen=True)
class Folds:
    """The first `count` folds are one division of the images: no image is held out twice in them. More folds are
    further divisions. `development` is everything that the delivered model learns from; `test` is empty unless the
    project has such a part."""

    folds: Sequence[Fold]
    count: int
    development: Array
    test: Array
    has_validation: bool = False

    def measured_on(self, folds: int) -> str:
        """What the figures come from when the delivered candidate was measured on the first `folds` folds."""
        if len(self.test):
            return "test part"
        if self.has_validation:
            return "validation part"
        return "folds" if folds > 1 else "held-out part"


def divide(images: Sequence[ImageFile], share: float, seed: int) -> Folds:
    """About `share` of the images is held out in each fold. The same images, share and seed give the same folds."""
    part = np.array([image.part for image in images])
    test = np.flatnonzero(part == "test")
    development = np.flatnonzero(part != "test")
    validation = np.flatnonzero(part == "validation")
    learnt = np.flatnonzero((part != "test") & (part != "validation"))
    if not len(learnt):
        learnt, validation = development, validation[:0]
    if not len(learnt):  # everything is called test, so nothing was meant by it
        learnt = development = np.arange(len(images))
        test = test[:0]
    if len(validation):
        return Folds([Fold(learnt, validation)], 1, development, test, has_validation=True)
    labels = np.unique([image.label for image in images], return_inverse=True)[1]
    groups = _groups(images)
    count = int(np.clip(round(1 / share), MIN_FOLDS, MAX_FOLDS))
    repetitions = next((times for limit, times in REPETITIONS if len(learnt) < limit), 1)
    folds: list[Fold] = []
    for repetition in range(repetitions):
        random = np.random.default_rng((seed, repetition))
        assigned = _assigned(labels[learnt], groups[learnt], count, random, fixed=_fixed(part[learnt]))
        division = [Fold(learnt[assigned != each], learnt[assigned == each]) for each in range(count)]
        folds += [fold for fold in division if len(fold.held_out)]
        if not repetition:
            used = len(folds)
    return Folds(folds, used, development, test)


def _fixed(part: Array) -> Array:
    """Which images are never held out."""
    return np.asarray((part == "train") & (part != "train").any())


def _groups(images: Sequence[ImageFile]) -> Array:
    """A number for each image; images without a group are groups of their own."""
    named: dict[str, int] = {}
    numbers = [named.setdefault(image.group, len(named)) if image.group else None for image in images]
    alone = len(named)
    return np.array([alone + at if number is None else number for at, number in enumerate(numbers)])


def _assigned(labels: Array, groups: Array, count: int, random: np.random.Generator, *, fixed: Array) -> Array:
    """The fold of each image. -1, never held out, for those that are `fixed`, and for images without which a class
    would have nothing to learn from.

    The largest groups go first, each to the fold that has the fewest images of its classes.
    """
    _, inverse = np.unique(groups, return_inverse=True)
    members = np.split(np.argsort(inverse, kind="stable"), np.cumsum(np.bincount(inverse))[:-1])
    members = [members[at] for at in random.permutation(len(members))]
    members.sort(key=len, reverse=True)
    classes = int(labels.max()) + 1
    held = np.zeros((count, classes))
    result = np.full(len(labels), -1)
    groups_of = _groups_of_each_class(labels, inverse, classes)
    preference = random.permutation(count)
    for group in members:
        counts = np.bincount(labels[group], minlength=classes)
        if fixed[group].any() or (groups_of[counts > 0] < 2).any():
            continue
        load = held[:, counts > 0].sum(axis=1) + held.sum(axis=1) * 1e-6
        fold = preference[np.argmin(load[preference])]
        if _leaves_nothing(result, labels, group, fold):
            fold = -1
        else:
            held[fold] += counts
        result[group] = fold
    return result


def _groups_of_each_class(labels: Array, inverse: Array, classes: int) -> Array:
    pairs = np.unique(np.stack([labels, inverse], axis=1), axis=0)
    return np.bincount(pairs[:, 0], minlength=classes)


def _leaves_nothing(result: Array, labels: Array, group: Array, fold: int) -> bool:
    """Whether a class would be held out as a whole in the fold that the group goes to."""
    inside = result == fold
    inside[group] = True
    return any(inside[labels == label].all() for label in np.unique(labels[group]))
