"""The verdict on a classification, in a sentence: whether anything was learnt, and which classes are confused.

Whether it is better than guessing is decided by a permutation test: if the labels were dealt to the images at random,
would the best of all settings that were tried reach this balanced accuracy in more than one of 50 cases? That holds for
unbalanced classes and few images. Images of a group keep one label, because they are predicted alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from tfserve.tensors.specs import Array
from tfserve.training.report.evaluation import balanced_accuracy, confusion

CHANCE = 0.02
MAX_PERMUTED = 4_000_000
"""Images times permutations times settings."""
MIN_PERMUTATIONS, MAX_PERMUTATIONS = 200, 2000
GOOD, FAIR = 0.75, 0.4
"""Balanced accuracy, from 0 at chance level to 1."""
Z95, Z80 = 1.96, 1.28
CONFUSED_SHARE = 0.1
FEW = 5
ENOUGH_PER_CLASS = 10
"""With this many measured images of each class, a useful model would be significantly better than guessing."""
MAX_NAMED = 3


class Verdict(msgspec.Struct, kw_only=True):
    """`code` is good, fair, weak, guessing or too_few; `interval` is that of the accuracy, at 95 %.

    `by_chance` is the p-value of the permutation test. `unmeasured` are the classes of none of the measured images.
    """

    code: str
    text: str
    balanced_accuracy: float
    chance_level: float
    majority: float
    by_chance: float
    interval: tuple[float, float]
    confused: list[tuple[str, str, float]]
    few_images: list[str]
    unmeasured: list[str]


def judge(
    truth: Array, predicted: Array, labels: Sequence[str], *, images: Sequence[int], rivals: Array | None = None,
    groups: Sequence[str] | None = None,
) -> Verdict:  # fmt: skip
    """`truth` and `predicted` are class numbers of the measured images, `images` counts all images of each class,
    those of a group once.

    `rivals` (settings, images) are the predictions among which the best were chosen. `groups` has the group of each
    measured image, empty for those without one.
    """
    classes = len(labels)
    matrix = confusion(truth, predicted, classes)
    present = matrix.sum(axis=1) > 0
    majority = matrix.sum(axis=1).max() / matrix.sum()
    balanced = balanced_accuracy(matrix)
    chance = 1 / max(2, int(present.sum()))
    deal = Deal(groups or [""] * len(truth))
    every = predicted[np.newaxis] if rivals is None else np.concatenate([predicted[np.newaxis], rivals])
    by_chance = _probability_of_luck(truth, every, deal, balanced) if present.sum() > 1 else 1.0
    interval = wilson(int(np.trace(matrix)), int(matrix.sum()), Z95)
    verdict = Verdict(
        code="", text="", balanced_accuracy=balanced, chance_level=chance, majority=float(majority),
        by_chance=by_chance, interval=interval, confused=_confused(matrix, labels),
        few_images=[label for label, count in zip(labels, images, strict=True) if count < FEW],
        unmeasured=[label for label, is_measured in zip(labels, present, strict=True) if not is_measured],
    )  # fmt: skip
    if by_chance > CHANCE:
        could_be_fair = interval[1] >= chance + FAIR * (1 - chance)
        verdict.code = "too_few" if could_be_fair and deal.count < ENOUGH_PER_CLASS * classes else "guessing"
    else:
        skill = (balanced - chance) / (1 - chance)
        verdict.code = "good" if skill >= GOOD else "fair" if skill >= FAIR else "weak"
    verdict.text = _sentence(verdict, len(truth), int(np.trace(matrix)), deal.count)
    return verdict


def wilson(hits: int, count: int, z: float) -> tuple[float, float]:
    """The interval of a share."""
    if not count:
        return 0.0, 1.0
    share, square = hits / count, z * z / count
    middle = share + square / 2
    half = z * math.sqrt(share * (1 - share) / count + square / (4 * count))
    return max(0.0, (middle - half) / (1 + square)), min(1.0, (middle + half) / (1 + square))


class Deal:
    """Deals what belongs to each image to others at random: images of a group receive from one other group.

    `groups` has the group of each image, empty for those without one. `count` is the number of groups.
    """

    def __init__(self, groups: Sequence[str]) -> None:
        known: dict[str | int, int] = {}
        group = np.array([known.setdefault(name or at, len(known)) for at, name in enumerate(groups)], np.int64)
        self.count = len(known)
        self._order = np.argsort(group, kind="stable")
        self._group = group[self._order]
        self._sizes = np.bincount(group, minlength=self.count)
        self._starts = np.cumsum(self._sizes) - self._sizes
        self._place = np.arange(len(group)) - self._starts[self._group]

    def __call__(self, random: np.random.Generator) -> Array:
        """For each image the position of the one that it receives from."""
        giver = random.permutation(self.count)[self._group]
        found = np.empty_like(self._order)
        found[self._order] = self._order[self._starts[giver] + self._place % self._sizes[giver]]
        return found


def _probability_of_luck(truth: Array, rivals: Array, deal: Deal, reached: float) -> float:
    """How often the best of the rivals is at least as good for labels that were dealt at random."""
    random = np.random.default_rng(1)
    permutations = int(np.clip(MAX_PERMUTED // rivals.size, MIN_PERMUTATIONS, MAX_PERMUTATIONS))
    as_good = 0
    for _ in range(permutations):
        dealt = truth[deal(random)]
        counts = np.bincount(dealt)
        weights = 1 / (counts[dealt] * np.count_nonzero(counts))
        as_good += bool(((rivals == dealt) @ weights).max() >= reached - 1e-9)
    return (as_good + 1) / (permutations + 1)


def _confused(matrix: Array, labels: Sequence[str]) -> list[tuple[str, str, float]]:
    """(true label, predicted label, share), the most frequent first; only where it is more than chance."""
    found = []
    for row, column in np.argwhere(matrix >= 2):
        count = int(matrix[row].sum())
        if row != column and wilson(int(matrix[row, column]), count, Z80)[0] >= CONFUSED_SHARE:
            found.append((labels[row], labels[column], round(float(matrix[row, column] / count), 3)))
    return sorted(found, key=lambda each: -each[2])


def too_few(figures: str, count: int, independent: int) -> str:
    """What is said if a result could be chance because of too few images, or too few groups of them."""
    if independent < count:
        return f"too few groups of images ({independent}) for a verdict ({figures}, which could be chance): add others"
    return f"too few images for a verdict ({figures}, which could be chance): add images"


def _sentence(verdict: Verdict, count: int, hits: int, independent: int) -> str:
    figures = f"{hits} of {count} images correct, {verdict.majority:.0%} are of the largest class"
    if verdict.code == "guessing":
        return f"no better than guessing ({figures})"
    if verdict.code == "too_few":
        return too_few(figures, count, independent)
    words = [{"good": "good", "fair": "fair", "weak": "weak, but better than guessing"}[verdict.code]]
    if verdict.confused:
        often = "often" if verdict.confused[0][2] < 0.5 else "mostly"
        named = " and ".join(f"`{true}` is {often} mistaken for `{taken}`" for true, taken, _ in verdict.confused[:1])
        words.append(f"but {named}")
    if hits / count < verdict.majority:
        words.append("but always predicting the largest class would be correct more often")
    words += without_figures(verdict.unmeasured, verdict.few_images)
    return ", ".join(words)


def without_figures(unmeasured: Sequence[str], few_images: Sequence[str]) -> list[str]:
    """What is said of classes that no measured image shows, and of others with few images."""
    words = []
    if unmeasured:
        words.append(f"but {listed(unmeasured)} {'was' if len(unmeasured) == 1 else 'were'} not measured")
    if few := [label for label in few_images if label not in unmeasured]:
        words.append(f"with too few images to judge {listed(few)}")
    return words


def listed(labels: Sequence[str]) -> str:
    more = len(labels) - MAX_NAMED
    return ", ".join(f"`{label}`" for label in labels[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
