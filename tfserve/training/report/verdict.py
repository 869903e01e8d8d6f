"""The verdict on a classification, in a sentence: whether anything was learnt, and which classes are confused.

Whether it is better than guessing is decided by a permutation test: would predictions that have nothing to do with the
images reach this balanced accuracy in more than one of 50 cases? That holds for unbalanced classes and few images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from tfserve.tensors.specs import Array
from tfserve.training.report.evaluation import balanced_accuracy, confusion

CHANCE = 0.02
"""Less than the usual 0.05, because the best of several penalties and candidates was chosen on the measured images."""
MAX_PERMUTED = 1_000_000
"""Images times permutations."""
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
    """`code` is good, fair, weak, guessing or too_few; `interval` is that of the accuracy, at 95 %."""

    code: str
    text: str
    balanced_accuracy: float
    chance_level: float
    majority: float
    interval: tuple[float, float]
    confused: list[tuple[str, str, float]]
    few_images: list[str]


def judge(truth: Array, predicted: Array, labels: Sequence[str], *, images: Sequence[int]) -> Verdict:
    """`truth` and `predicted` are class numbers of the measured images, `images` counts all images of each class."""
    classes = len(labels)
    matrix = confusion(truth, predicted, classes)
    present = matrix.sum(axis=1) > 0
    majority = matrix.sum(axis=1).max() / matrix.sum()
    balanced = balanced_accuracy(matrix)
    chance = 1 / max(2, int(present.sum()))
    interval = wilson(int(np.trace(matrix)), int(matrix.sum()), Z95)
    verdict = Verdict(
        code="", text="", balanced_accuracy=balanced, chance_level=chance, majority=float(majority),
        interval=interval, confused=_confused(matrix, labels),
        few_images=[label for label, count in zip(labels, images, strict=True) if count < FEW],
    )  # fmt: skip
    if present.sum() < 2 or not _beats_chance(truth, predicted, balanced, classes):
        could_be_fair = interval[1] >= chance + FAIR * (1 - chance)
        verdict.code = "too_few" if could_be_fair and len(truth) < ENOUGH_PER_CLASS * classes else "guessing"
    else:
        skill = (balanced - chance) / (1 - chance)
        verdict.code = "good" if skill >= GOOD else "fair" if skill >= FAIR else "weak"
    verdict.text = _sentence(verdict, len(truth), int(np.trace(matrix)))
    return verdict


def wilson(hits: int, count: int, z: float) -> tuple[float, float]:
    """The interval of a share."""
    if not count:
        return 0.0, 1.0
    share, square = hits / count, z * z / count
    middle = share + square / 2
    half = z * math.sqrt(share * (1 - share) / count + square / (4 * count))
    return max(0.0, (middle - half) / (1 + square)), min(1.0, (middle + half) / (1 + square))


def _beats_chance(truth: Array, predicted: Array, balanced: float, classes: int) -> bool:
    random = np.random.default_rng(1)
    permutations = int(np.clip(MAX_PERMUTED // len(truth), MIN_PERMUTATIONS, MAX_PERMUTATIONS))
    weights = 1 / np.maximum(np.bincount(truth, minlength=classes), 1)
    present = len(np.unique(truth))
    reached = 0
    for _ in range(permutations):
        shuffled = random.permutation(truth)
        hit = shuffled == predicted
        reached += weights[shuffled[hit]].sum() / present >= balanced - 1e-9
    return bool((reached + 1) / (permutations + 1) <= CHANCE)


def _confused(matrix: Array, labels: Sequence[str]) -> list[tuple[str, str, float]]:
    """(true label, predicted label, share), the most frequent first; only where it is more than chance."""
    found = []
    for row, column in np.argwhere(matrix >= 2):
        count = int(matrix[row].sum())
        if row != column and wilson(int(matrix[row, column]), count, Z80)[0] >= CONFUSED_SHARE:
            found.append((labels[row], labels[column], round(float(matrix[row, column] / count), 3)))
    return sorted(found, key=lambda each: -each[2])


def _sentence(verdict: Verdict, count: int, hits: int) -> str:
    figures = f"{hits} of {count} images correct, {verdict.majority:.0%} are of the largest class"
    if verdict.code == "guessing":
        return f"no better than guessing ({figures})"
    if verdict.code == "too_few":
        return f"too few images for a verdict ({figures}, which could be chance): add images"
    words = [{"good": "good", "fair": "fair", "weak": "weak, but better than guessing"}[verdict.code]]
    if verdict.confused:
        often = "often" if verdict.confused[0][2] < 0.5 else "mostly"
        named = " and ".join(f"`{true}` is {often} mistaken for `{taken}`" for true, taken, _ in verdict.confused[:1])
        words.append(f"but {named}")
    if hits / count < verdict.majority:
        words.append("but always predicting the largest class would be correct more often")
    if verdict.few_images:
        named = ", ".join(f"`{label}`" for label in verdict.few_images[:MAX_NAMED])
        more = len(verdict.few_images) - MAX_NAMED
        words.append(f"with too few images to judge {named}" + (f" and {more} more" * (more > 0)))
    return ", ".join(words)
