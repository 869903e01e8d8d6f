"""How good a model is, in numbers: plain numpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfserve.tensors import Array

CALIBRATION_BINS = 10


def confusion(truth: Array, predicted: Array, classes: int) -> Array:
    """(classes, classes) counts: rows are what is true, columns what was predicted.

    A true class that is none of them, such as that of ignored pixels, is not counted.
    """
    counted = truth.ravel() < classes
    pairs = truth.ravel()[counted].astype(np.int64) * classes + predicted.ravel()[counted]
    cells = np.bincount(pairs, minlength=classes * classes)
    return cells.reshape(classes, classes)


def classification(truth: Array, probabilities: Array, labels: Sequence[str]) -> dict[str, Any]:
    """All that metrics.json says of a classification's held-out images."""
    matrix = confusion(truth, probabilities.argmax(axis=1), len(labels))
    return {
        "accuracy": _share(np.trace(matrix), matrix.sum()),
        "balanced_accuracy": balanced_accuracy(matrix),
        "macro_f1": float(np.mean([each["f1"] for each in per_class(matrix, labels)])),
        "per_class": per_class(matrix, labels),
        "confusion_matrix": matrix.tolist(),
        "calibration": calibration(truth, probabilities),
    }


def balanced_accuracy(matrix: Array) -> float:
    """The mean recall of the classes that occur. `matrix` has a row for each true class."""
    counts = matrix.sum(axis=1)
    return float((np.diag(matrix)[counts > 0] / counts[counts > 0]).mean())


def per_class(matrix: Array, labels: Sequence[str]) -> list[dict[str, Any]]:
    """Precision, recall and F1 of each class; 0 where nothing was predicted or nothing is true."""
    told = []
    for place, label in enumerate(labels):
        hit, truth, predicted = matrix[place, place], matrix[place].sum(), matrix[:, place].sum()
        told.append({
            "label": label, "precision": _share(hit, predicted), "recall": _share(hit, truth),
            "f1": _share(2 * hit, truth + predicted), "images": int(truth),
        })  # fmt: skip
    return told


def calibration(truth: Array, probabilities: Array) -> dict[str, Any]:
    """Whether "90 % sure" is right in 9 of 10 cases: the expected calibration error, and its bins."""
    sure, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    places = np.minimum((sure * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    bins, error = [], 0.0
    for place in range(CALIBRATION_BINS):
        inside = places == place
        count = int(inside.sum())
        confidence = float(sure[inside].mean()) if count else None
        accuracy = float(right[inside].mean()) if count else None
        if confidence is not None and accuracy is not None:
            error += abs(confidence - accuracy) * count / len(truth)
        bins.append({
            "from": place / CALIBRATION_BINS, "to": (place + 1) / CALIBRATION_BINS, "images": count,
            "confidence": confidence, "accuracy": accuracy,
        })  # fmt: skip
    return {"expected_calibration_error": error, "bins": bins}


def segmentation(matrix: Array, labels: Sequence[str]) -> dict[str, Any]:
    """All that metrics.json says of a segmentation, from the confusion of all held-out pixels.

    `mean_iou` and `mean_dice` are over the classes without the background that are in the held-out masks.
    """
    told = []
    for place, label in enumerate(labels):
        hit, truth, predicted = (
            int(each) for each in (matrix[place, place], matrix[place].sum(), matrix[:, place].sum())
        )
        told.append({
            "label": label, "iou": _share(hit, truth + predicted - hit), "dice": _share(2 * hit, truth + predicted),
            "precision": _share(hit, predicted), "recall": _share(hit, truth), "pixels": truth,
        })  # fmt: skip
    return {
        "mean_iou": _mean_of_present("iou", told[1:]),
        "mean_dice": _mean_of_present("dice", told[1:]),
        "pixel_accuracy": _share(np.trace(matrix), matrix.sum()),
        "per_class": told,
        "confusion_matrix": matrix.tolist(),
    }


def _mean_of_present(name: str, classes: Sequence[dict[str, Any]]) -> float:
    present = [each[name] for each in classes if each["pixels"]]
    return float(np.mean(present)) if present else 0.0


def _share(part: Any, whole: Any) -> float:
    return float(part) / float(whole) if whole else 0.0
