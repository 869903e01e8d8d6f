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

import msgspec
import numpy as np

from tfserve.tensors.specs import Array
from tfserve.training.dataset.dataset_index import ImageFile

MIN_FOLDS, MAX_FOLDS = 2, 10
REPETITIONS = ((60, 4), (200, 2))
"""Up to this many images are divided this many times, to reduce the influence of chance."""


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
        """The source of the figures when the delivered candidate was measured on the first `folds` folds."""
        if len(self.test):
            return "test part"
        if self.has_validation:
            return "validation part"
        return "folds" if folds > 1 else "held-out part"


@dataclass(frozen=True)
class _Parts:
    """Positions of images: those learnt from in each fold, the project's own parts, and all but the test part."""

    learnt: Array
    validation: Array
    development: Array
    test: Array


def divide(images: Sequence[ImageFile], share: float, seed: int) -> Folds:
    """About `share` of the images is held out in each fold. The same images, share and seed give the same folds.

    Without an image that `may_be_held_out` returns, there are no folds.
    """
    parts = _parts(images)
    learnt = parts.learnt
    if len(parts.validation):
        fold = Fold(learnt, parts.validation)
        return Folds([fold], 1, parts.development, parts.test, has_validation=True)
    labels, groups, fixed = _of_learnt(images, learnt)
    count = int(np.clip(round(1 / share), MIN_FOLDS, MAX_FOLDS))
    repetitions = next((times for limit, times in REPETITIONS if len(learnt) < limit), 1)
    folds: list[Fold] = []
    for repetition in range(repetitions):
        random = np.random.default_rng((seed, repetition))
        assigned = _assigned(labels, groups, count, random, fixed=fixed)
        division = [Fold(learnt[assigned != each], learnt[assigned == each]) for each in range(count)]
        folds += [fold for fold in division if len(fold.held_out)]
        if not repetition:
            used = len(folds)
    return Folds(folds, used, parts.development, parts.test)


def divide_loosely(images: Sequence[ImageFile], labels: Sequence[int], share: float, seed: int) -> Folds:
    """As `divide`, for images that show several classes each.

    `labels`, a rare class of each image, only spread these classes over the folds. If they allow no fold, because each
    is in one group, they are ignored.
    """
    for each in (labels, [-1] * len(images)):
        folds = divide(relabelled(images, each), share, seed)
        if folds.folds:
            break
    return folds


def relabelled(images: Sequence[ImageFile], labels: Sequence[int]) -> list[ImageFile]:
    return [msgspec.structs.replace(image, label=label) for image, label in zip(images, labels, strict=True)]


def may_be_held_out(images: Sequence[ImageFile]) -> Array:
    """Positions of the images that a fold may hold out: of the validation part if there is one; else of the groups
    without which each of their classes still has images to learn from."""
    parts = _parts(images)
    if len(parts.validation):
        return parts.validation
    labels, groups, fixed = _of_learnt(images, parts.learnt)
    _, inverse = np.unique(groups, return_inverse=True)
    in_one_group = _groups_of_each_class(labels, inverse, int(labels.max()) + 1) < 2
    is_kept = np.zeros(int(inverse.max()) + 1, bool)
    is_kept[inverse[fixed | in_one_group[labels]]] = True
    return np.asarray(parts.learnt[~is_kept[inverse]])


def independent(images: Sequence[ImageFile]) -> Array:
    """A number for each image, the same for images of one group."""
    named: dict[str, int] = {}
    numbers = [named.setdefault(image.group, len(named)) if image.group else None for image in images]
    alone = len(named)
    return np.array([alone + at if number is None else number for at, number in enumerate(numbers)])


def _parts(images: Sequence[ImageFile]) -> _Parts:
    part = np.array([image.part for image in images])
    test = np.flatnonzero(part == "test")
    development = np.flatnonzero(part != "test")
    validation = np.flatnonzero(part == "validation")
    learnt = np.flatnonzero((part != "test") & (part != "validation"))
    if not len(learnt):
        learnt, validation = development, validation[:0]
    if not len(learnt):  # everything is called test, so the name is meaningless
        learnt = development = np.arange(len(images))
        test = test[:0]
    return _Parts(learnt, validation, development, test)


def _of_learnt(images: Sequence[ImageFile], learnt: Array) -> tuple[Array, Array, Array]:
    """The label and the group of each image that is learnt from, and whether it is never held out."""
    labels = np.unique([image.label for image in images], return_inverse=True)[1]
    part = np.array([image.part for image in images])[learnt]
    return labels[learnt], independent(images)[learnt], _fixed(part)


def _fixed(part: Array) -> Array:
    """Which images are never held out."""
    return np.asarray((part == "train") & (part != "train").any())


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
