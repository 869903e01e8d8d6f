"""Held-out images with their true and their predicted boxes, as files that a page can draw over each other."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tfserve.tensors.specs import Array
from tfserve.training.dataset.splitting import spread
from tfserve.training.report.detection_metrics import Predicted, Truth
from tfserve.training.report.detection_mistakes import MISSED_WEIGHT, ComparedBoxes, compare
from tfserve.training.report.mask_examples import FOLDER, SIDE

EXAMPLES_FILE = f"{FOLDER}/boxes.json"
MAX_WORST, MAX_OTHERS = 12, 12

Pixels = Callable[[int], Array]
"""From the number of a held-out image to all of its pixels, (height, width, 3) uint8."""


def write(
    folder: Path, names: Sequence[str], pixels: Pixels, truths: Sequence[Truth], predictions: Sequence[Predicted],
    score: float,
) -> None:  # fmt: skip
    """Writes the images with the worst mistakes, the worst first, and some of the others.

    All boxes are in pixels of the image. Predicted boxes below `score` are left out.
    """
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    compared = [compare(truth, found, score) for truth, found in zip(truths, predictions, strict=True)]
    rows = []
    for number, at in enumerate(_shown(compared)):
        full, file = pixels(at), f"{FOLDER}/{number:02}-image.webp"
        image = Image.fromarray(full)
        image.thumbnail((SIDE, SIDE))
        image.save(folder / file, "WebP", quality=80)
        size = {"width": full.shape[1], "height": full.shape[0]}
        rows.append({"file": names[at], "image": file, **size, **_boxes(truths[at], compared[at])})
    (folder / EXAMPLES_FILE).write_text(json.dumps(rows))


def weight(found: ComparedBoxes) -> float:
    """How bad the worst mistake in an image is, from 0 (none) to 1."""
    scores = found.predicted.scores[found.wrong]
    return max(float(scores.max(initial=0.0)), MISSED_WEIGHT if found.missed.any() else 0.0)


def _shown(compared: Sequence[ComparedBoxes]) -> list[int]:
    weights = np.array([weight(each) for each in compared])
    order = np.argsort(-weights, kind="stable")
    worst = order[weights[order] > 0][:MAX_WORST]
    others = np.setdiff1d(np.arange(len(compared)), worst)
    return [int(at) for at in (*worst, *spread(others, MAX_OTHERS))]


def _boxes(truth: Truth, found: ComparedBoxes) -> dict[str, Any]:
    predicted = found.predicted
    return {
        "true": [
            {"box": _rounded(box), "label": int(label), "missed": bool(missed)}
            for box, label, missed in zip(truth.boxes, truth.labels, found.missed, strict=True)
        ],
        "predicted": [
            {"box": _rounded(box), "label": int(label), "score": round(float(score), 4), "wrong": bool(wrong)}
            for box, label, score, wrong in zip(
                predicted.boxes, predicted.labels, predicted.scores, found.wrong, strict=True
            )
        ],
    }


def _rounded(box: Array) -> list[float]:
    return [round(float(side), 1) for side in box]
