"""The verdict on a segmentation, in a sentence: whether anything was learnt, and which classes are not found.

Whether it is better than guessing is decided by a permutation test: would the same masks, given to other images, reach
this mean IoU in more than one of 50 cases? Images of a group get the masks of one other group. A model that predicts
the same mask for every image, such as only background, never passes it.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from tfserve.tensors.specs import Array
from tfserve.training.report.verdict import CHANCE, FEW, Deal, listed, too_few, without_figures

GOOD, FAIR = 0.7, 0.4
"""Mean IoU."""
MAX_COMPARED = 200
"""Images in the permutation test."""
PERMUTATIONS = 1000
ENOUGH_IMAGES = 10
"""With this many measured images, a useful model would be significantly better than guessing."""
HARDLY_FOUND = 0.1
"""The IoU of a class below which it is named."""
OFTEN = 0.3
"""The share of a class's pixels that is taken for another class, above which it is named."""


class MaskVerdict(msgspec.Struct, kw_only=True):
    """`code` is good, fair, weak, guessing or too_few; `by_chance` is the p-value of the permutation test.

    `majority` is the share of pixels of the largest class, `taken` has (true label, predicted label, share of pixels),
    `unmeasured` has the classes of none of the measured images.
    """

    code: str
    text: str
    mean_iou: float
    by_chance: float
    majority: float
    taken: list[tuple[str, str, float]]
    hardly_found: list[str]
    few_images: list[str]
    unmeasured: list[str]


def judge(
    matrix: Array, mean_iou: float, truth: Array, predicted: Array, labels: Sequence[str], *, images: Sequence[int],
    groups: Sequence[str] | None = None,
) -> MaskVerdict:  # fmt: skip
    """`matrix` is the confusion of all measured pixels; `truth` and `predicted` (images, height, width) are masks of
    the measured images in a small size. `images` counts, for each class, all images that have it, those of a group
    once. `groups` has the group of each measured image, empty for those without one.
    """
    by_chance = probability_of_luck(truth, predicted, len(labels), groups)
    verdict = MaskVerdict(
        code="", text="", mean_iou=mean_iou, by_chance=by_chance,
        majority=float(matrix.sum(axis=1).max() / max(matrix.sum(), 1)),
        taken=_taken(matrix, labels), hardly_found=_hardly_found(matrix, labels),
        few_images=[label for label, count in zip(labels[1:], images[1:], strict=True) if count < FEW],
        unmeasured=[label for label, pixels in zip(labels[1:], matrix.sum(axis=1)[1:], strict=True) if not pixels],
    )  # fmt: skip
    independent = Deal(groups or [""] * len(truth)).count
    if by_chance > CHANCE:
        verdict.code = "too_few" if independent < ENOUGH_IMAGES and mean_iou >= FAIR / 2 else "guessing"
    else:
        verdict.code = "good" if mean_iou >= GOOD else "fair" if mean_iou >= FAIR else "weak"
    verdict.text = _sentence(verdict, len(truth), independent)
    return verdict


def probability_of_luck(truth: Array, predicted: Array, classes: int, groups: Sequence[str] | None = None) -> float:
    """How often the same masks, in another order, fit at least as well: the p-value of a permutation test."""
    random = np.random.default_rng(1)
    groups = groups or [""] * len(truth)
    if len(truth) > MAX_COMPARED:
        chosen = random.choice(len(truth), MAX_COMPARED, replace=False)
        truth, predicted, groups = truth[chosen], predicted[chosen], [groups[at] for at in chosen]
    count, deal = len(truth), Deal(groups)
    flat, guesses = truth.reshape(count, -1), predicted.reshape(count, -1)
    known = (flat < classes).astype(np.float32)
    shared, unions = [], []
    for label in range(1, classes):
        is_true, is_predicted = (flat == label).astype(np.float32), (guesses == label).astype(np.float32)
        if not is_true.any():
            continue
        both = is_predicted @ is_true.T  # (predicted, true)
        shared.append(both)
        unions.append((is_predicted @ known.T) + is_true.sum(axis=1) - both)
    if not shared:
        return 1.0
    overlaps, sizes = np.stack(shared), np.stack(unions)

    def fit(order: Array) -> float:
        at = np.arange(count)
        each = overlaps[:, order, at].sum(axis=1) / np.maximum(sizes[:, order, at].sum(axis=1), 1)
        return float(each.mean())

    reached, best = 0, fit(np.arange(count))
    for _ in range(PERMUTATIONS):
        reached += fit(deal(random)) >= best - 1e-9
    return (reached + 1) / (PERMUTATIONS + 1)


def _taken(matrix: Array, labels: Sequence[str]) -> list[tuple[str, str, float]]:
    """The largest share first."""
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    found = [
        (labels[row], labels[column], round(float(shares[row, column]), 3))
        for row, column in np.argwhere(shares >= OFTEN)
        if row != column and row
    ]
    return sorted(found, key=lambda each: -each[2])


def _hardly_found(matrix: Array, labels: Sequence[str]) -> list[str]:
    hits, truth = np.diag(matrix), matrix.sum(axis=1)
    union = truth + matrix.sum(axis=0) - hits
    return [
        label for n, label in enumerate(labels) if n and truth[n] and hits[n] < HARDLY_FOUND * union[n]
    ]  # fmt: skip


def _sentence(verdict: MaskVerdict, count: int, independent: int) -> str:
    figures = f"mean IoU {verdict.mean_iou:.2f} on {count} images"
    if verdict.code == "guessing":
        return f"no better than guessing: the same masks would fit other images as well ({figures})"
    if verdict.code == "too_few":
        return too_few(figures, count, independent)
    words = [{"good": "good", "fair": "fair", "weak": "weak, but better than guessing"}[verdict.code] + f" ({figures})"]
    others = [each for each in verdict.taken if each[0] not in verdict.hardly_found]
    if verdict.hardly_found:
        words.append(f"but {_named(verdict.hardly_found)} hardly found")
    elif others:
        words.append(f"but `{others[0][0]}` is often mistaken for `{others[0][1]}`")
    words += without_figures(verdict.unmeasured, verdict.few_images)
    return ", ".join(words)


def _named(labels: Sequence[str]) -> str:
    return f"{listed(labels)} {'is' if len(labels) == 1 else 'are'}"
