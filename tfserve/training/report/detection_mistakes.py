"""What a detector did wrong on images whose objects are known: wrong boxes, and objects that it missed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tfserve.tensors.specs import Array
from tfserve.training.report.detection_metrics import Predicted, Truth, iou

HIT = 0.5
"""IoU from which a box counts as that of an object."""
MISSED_WEIGHT = 0.5


class ComparedBoxes(NamedTuple):
    """The predicted boxes of one image with at least a certain score, compared with the true ones.

    `predicted` are those boxes, `wrong` (bool) is their verdict, `overlaps` their IoU with each true box, and `missed`
    (bool) marks the true boxes that none of them fits. A box over a crowd is never wrong, and a crowd is never missed.
    """

    predicted: Predicted
    wrong: Array
    missed: Array
    overlaps: Array


class Mistake(NamedTuple):
    """A wrong box, or an object that was not found. `weight` orders them, the worst first."""

    weight: float
    image: int
    box: Array
    caption: str


def compare(truth: Truth, predicted: Predicted, score: float) -> ComparedBoxes:
    """Matches the boxes with at least this score, best first, with the objects of the same class."""
    kept = predicted.scores >= score
    counted = Predicted(predicted.boxes[kept], predicted.scores[kept], predicted.labels[kept])
    overlaps, crowd = iou(counted.boxes, truth.boxes), truth.crowd.astype(bool)
    missed, wrong = ~crowd, np.zeros(len(counted.scores), bool)
    for at, (label, each) in enumerate(zip(counted.labels, overlaps, strict=True)):
        fitting = np.where((truth.labels == label) & missed, each, 0.0)
        if fitting.size and fitting.max() >= HIT:
            missed[fitting.argmax()] = False
        else:
            wrong[at] = not (crowd & (each >= HIT)).any()
    return ComparedBoxes(counted, wrong, missed, overlaps)


def mistakes(
    truths: Sequence[Truth], predictions: Sequence[Predicted], labels: Sequence[str], score: float
) -> list[Mistake]:
    """The worst first: wrong boxes by their score, missed objects as if they had a score of a half."""
    every: list[Mistake] = []
    for image, (truth, predicted) in enumerate(zip(truths, predictions, strict=True)):
        every += _of_image(image, truth, compare(truth, predicted, score), labels)
    return sorted(every, key=lambda mistake: -mistake.weight)


def _of_image(image: int, truth: Truth, found: ComparedBoxes, labels: Sequence[str]) -> list[Mistake]:
    boxes, scores, numbers = found.predicted.boxes, found.predicted.scores, found.predicted.labels
    wrong = [
        Mistake(
            float(scores[at]), image, boxes[at],
            f"{_really(found.overlaps[at], truth, labels)} → {labels[numbers[at]]} {scores[at]:.2f}",
        )
        for at in np.flatnonzero(found.wrong)
    ]  # fmt: skip
    missed = [
        Mistake(MISSED_WEIGHT, image, truth.boxes[at], f"missed: {labels[truth.labels[at]]}")
        for at in np.flatnonzero(found.missed)
    ]
    return wrong + missed


def _really(overlaps: Array, truth: Truth, labels: Sequence[str]) -> str:
    """What really is where a wrong box is."""
    if overlaps.size and overlaps.max() >= HIT:
        return str(labels[truth.labels[overlaps.argmax()]])
    return "inexact" if overlaps.size and overlaps.max() >= 0.1 else "nothing"
