"""What a classifier says of single images: a table of all held-out images, thresholds, and what to label next."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfserve.tensors import Array

HELD_OUT_FILE = "predictions.csv"
LABEL_NEXT_FILE = "label_next.csv"


def write_held_out(file: Path, paths: Sequence[str], truth: Array, probabilities: Array, labels: Sequence[str]) -> None:
    """A row for each held-out image. `truth` are class numbers, `probabilities` is (images, classes)."""
    predicted = probabilities.argmax(axis=1)
    rows = (
        (path, labels[true], labels[best], f"{row[best]:.4f}", f"{row[true]:.4f}")
        for path, true, best, row in zip(paths, truth, predicted, probabilities, strict=True)
    )
    _write(file, ("file", "true", "predicted", "score", "score_of_true"), rows)


def write_label_next(file: Path, paths: Sequence[str], probabilities: Array, labels: Sequence[str]) -> Array:
    """Images without a label, the least certain first. Returns that order."""
    order = by_uncertainty(probabilities)
    best = np.sort(probabilities, axis=1)
    rows = (
        (paths[n], labels[probabilities[n].argmax()], f"{best[n, -1]:.4f}", f"{best[n, -1] - best[n, -2]:.4f}")
        for n in order
    )
    _write(file, ("file", "predicted", "score", "margin"), rows)
    return order


def by_uncertainty(probabilities: Array) -> Array:
    """The rows in order of how close the two best classes are: where a label teaches most."""
    best = np.sort(probabilities, axis=1)
    return np.argsort(best[:, -1] - best[:, -2], kind="stable")


def thresholds(truth: Array, probabilities: Array, labels: Sequence[str]) -> list[dict[str, Any]]:
    """For each class the least score at which to believe in it, so that F1 (it against all others) is highest.

    A class without an image among these has no threshold.
    """
    return [
        {"label": label, **_threshold(truth == place, probabilities[:, place])} for place, label in enumerate(labels)
    ]


def _threshold(is_true: Array, scores: Array) -> dict[str, float | None]:
    order = np.argsort(-scores, kind="stable")
    hits, ordered = np.cumsum(is_true[order]), scores[order]
    if not len(scores) or not hits[-1]:
        return {"threshold": None, "precision": None, "recall": None}
    # Equal scores are on the same side of every threshold.
    last = np.append(ordered[:-1] != ordered[1:], True)
    found = np.arange(1, len(scores) + 1)
    f1 = np.where(last, 2 * hits / (found + hits[-1]), -1.0)
    best = int(f1.argmax())
    below = ordered[best + 1] if best + 1 < len(scores) else 0.0
    return {
        "threshold": round(float(ordered[best] + below) / 2, 4),
        "precision": round(float(hits[best] / found[best]), 4),
        "recall": round(float(hits[best] / hits[-1]), 4),
    }


def _write(file: Path, header: Sequence[str], rows: Any) -> None:
    with file.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(header)
        writer.writerows(rows)
