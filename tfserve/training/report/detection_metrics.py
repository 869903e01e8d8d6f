"""The metrics of a detector: COCO's average precision, and precision and recall over the score.

Boxes are (n, 4) arrays of left, top, right, bottom. All functions are plain numpy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfserve.tensors.specs import Array
from tfserve.training.report.verdict import listed, without_figures

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
CURVE_POINTS = 96
ENOUGH_OBJECTS = 10
NOTHING, FAIR, GOOD = 0.1, 0.4, 0.75
"""mAP50."""
WEAK_SHARE = 0.6
"""A class with less than this share of the mean is named."""


@dataclass(frozen=True)
class Truth:
    """The true boxes of one image. `crowd` marks regions in which predictions are neither right nor wrong."""

    boxes: Array
    labels: Array
    crowd: Array


@dataclass(frozen=True)
class Predicted:
    """The predicted boxes of one image, best first."""

    boxes: Array
    scores: Array
    labels: Array


@dataclass(frozen=True)
class Matches:
    """Of one class, for all predictions ordered by score: whether each is right or ignored, at each IoU threshold."""

    scores: Array
    right: Array
    ignored: Array
    count: int


def evaluate(truths: Sequence[Truth], predictions: Sequence[Predicted], labels: Sequence[str]) -> dict[str, Any]:
    """`verdict`, `map50`, `map`, `per_class`, `score_curve` and the score with the best F1, `best_score`."""
    matches = [match_class(truths, predictions, label) for label in range(len(labels))]
    rows = [_class_row(label, each) for label, each in zip(labels, matches, strict=True)]
    present = [row for row in rows if row["objects"]]
    curve = score_curve(matches)
    highest = max(point["f1"] for point in curve)
    equally_good = [point for point in curve if point["f1"] >= highest - 1e-9]
    best = equally_good[len(equally_good) // 2]  # far from the scores that would change it
    precision = best["precision"] if best["f1"] else 0.0  # where nothing is found, the curve has 1
    for row, each in zip(rows, matches, strict=True):
        row |= _at_score(each, best["score"])
    map50 = _mean([row["ap50"] for row in present])
    return {
        "verdict": verdict(map50, rows), "map50": map50, "map": _mean([row["ap"] for row in present]),
        "precision": precision, "recall": best["recall"], "f1": best["f1"], "best_score": best["score"],
        "per_class": rows, "score_curve": curve,
    }  # fmt: skip


def verdict(map50: float, rows: Sequence[Mapping[str, Any]]) -> str:
    """What the numbers mean, in a sentence. `rows` are those of `per_class`."""
    objects = sum(row["objects"] for row in rows)
    if not objects:
        return "not measured: the held-out images contain no objects. Annotate objects in more images"
    if map50 < NOTHING:
        return (
            f"almost nothing was learnt: the model finds hardly any of the {objects} objects in the held-out images."
            " Annotate more objects, or train for more epochs"
        )
    if objects < ENOUGH_OBJECTS:
        return (
            f"too few objects to measure: {objects} in the held-out images, but at least {ENOUGH_OBJECTS} are needed"
            f" (mAP50 {map50:.2f})"
        )
    word = "good" if map50 >= GOOD else "fair" if map50 >= FAIR else "weak"
    worst = [row["label"] for row in rows if row["objects"] and row["ap50"] < min(map50, GOOD) * WEAK_SHARE]
    words = [word]
    if worst:
        words.append(f"but {listed(worst)} {'is' if len(worst) == 1 else 'are'} often missed or confused")
    return ", ".join(words + without_figures([row["label"] for row in rows if not row["objects"]], []))


def match_class(truths: Sequence[Truth], predictions: Sequence[Predicted], label: int) -> Matches:
    """Each prediction takes the free true box of its image and class that it overlaps most, the best scores first."""
    scores, right, ignored, count = [], [], [], 0
    for truth, predicted in zip(truths, predictions, strict=True):
        known, own = truth.labels == label, predicted.labels == label
        crowd = truth.crowd[known].astype(bool)
        count += int((~crowd).sum())
        hits, skipped = _match_image(truth.boxes[known], crowd, predicted.boxes[own])
        scores.append(predicted.scores[own])
        right.append(hits)
        ignored.append(skipped)
    if not scores:
        return Matches(np.zeros(0), np.zeros((len(THRESHOLDS), 0), bool), np.zeros((len(THRESHOLDS), 0), bool), 0)
    every = np.concatenate(scores)
    order = np.argsort(-every, kind="stable")
    return Matches(
        every[order], np.concatenate(right, axis=1)[:, order], np.concatenate(ignored, axis=1)[:, order], count
    )


def average_precision(matches: Matches) -> Array:
    """One number for each IoU threshold: the mean of the best precision at 101 recalls. NaN without true boxes."""
    if not matches.count:
        return np.full(len(THRESHOLDS), np.nan)
    return np.array([
        _area_under(right[~ignored], matches.count)
        for right, ignored in zip(matches.right, matches.ignored, strict=True)
    ])  # fmt: skip


def score_curve(matches: Sequence[Matches]) -> list[dict[str, float]]:
    """Precision, recall and F1 of all classes together at IoU 0.5, if boxes below a score are left out."""
    points = []
    for score in np.round(np.linspace(0.05, 1.0, CURVE_POINTS), 2):
        rows = [_at_score(each, score) for each in matches]
        right, found, true = (sum(row[name] for row in rows) for name in ("right", "found", "objects"))
        precision, recall = right / found if found else 1.0, right / true if true else 0.0
        points.append({"score": float(score), "precision": precision, "recall": recall, "f1": _f1(precision, recall)})
    return points


def iou(first: Array, second: Array, crowd: Array | None = None) -> Array:
    """(n, m) overlaps of boxes (n, 4) with boxes (m, 4); with crowds as the share of the first box."""
    lows = np.maximum(first[:, None, :2], second[None, :, :2])
    highs = np.minimum(first[:, None, 2:], second[None, :, 2:])
    both = np.clip(highs - lows, 0, None).prod(axis=-1)
    own, other = _areas(first)[:, None], _areas(second)[None]
    either = own + other - both if crowd is None else np.where(crowd[None], own, own + other - both)
    return np.asarray(np.divide(both, either, out=np.zeros_like(both), where=either > 0))


# --- inside


def _match_image(known: Array, crowd: Array, predicted: Array) -> tuple[Array, Array]:
    """(thresholds, predictions) booleans: right, and ignored because only a crowd was there."""
    shape = (len(THRESHOLDS), len(predicted))
    right, ignored = np.zeros(shape, bool), np.zeros(shape, bool)
    if not len(known) or not len(predicted):
        return right, ignored
    overlaps = iou(predicted, known, crowd)
    for row, threshold in enumerate(THRESHOLDS):
        free = ~crowd
        for index, each in enumerate(overlaps):
            least = min(threshold, 1 - 1e-10)
            fitting = np.where(free, each, -1.0)
            # Of equally good ones the last, as pycocotools chooses.
            best = len(fitting) - 1 - int(np.argmax(fitting[::-1]))
            if fitting[best] >= least:
                free[best], right[row, index] = False, True
            else:
                ignored[row, index] = bool((each[crowd] >= least).any())
    return right, ignored


def _area_under(right: Array, count: int) -> float:
    hits = np.cumsum(right)
    recall, precision = hits / count, hits / np.arange(1, len(right) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    indices = np.searchsorted(recall, RECALLS, side="left")
    return float(np.append(precision, 0.0)[np.minimum(indices, len(precision))].mean())


def _class_row(label: str, matches: Matches) -> dict[str, Any]:
    values = average_precision(matches)
    known = bool(matches.count)
    return {
        "label": label, "ap50": float(values[0]) if known else 0.0, "ap": float(values.mean()) if known else 0.0,
        "objects": matches.count,
    }  # fmt: skip


def _at_score(matches: Matches, score: float) -> dict[str, Any]:
    """At IoU 0.5, without boxes that have a lower score."""
    counted = (matches.scores >= score) & ~matches.ignored[0]
    found, right = int(counted.sum()), int((matches.right[0] & counted).sum())
    return {
        "precision": right / found if found else 0.0, "recall": right / matches.count if matches.count else 0.0,
        "right": right, "found": found, "objects": matches.count,
    }  # fmt: skip


def _f1(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else 0.0


def _areas(boxes: Array) -> Array:
    return np.asarray((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
