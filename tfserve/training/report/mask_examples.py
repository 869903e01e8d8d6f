"""Held-out images with the true and the predicted mask, as files that a page can lay over each other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tfserve.tensors.specs import Array

FOLDER = "examples"
EXAMPLES_FILE = f"{FOLDER}/examples.json"
PARTS = ("image", "true", "predicted")
SIDE = 320
"""The larger side of the files, in pixels."""
COLOURS = ("e6194b", "3cb44b", "4363d8", "f58231", "911eb4", "17a2b8", "f032e6", "808000", "9a6324", "1f9e89")
"""Of the classes 1, 2, 3, …, repeated. The pages use the same ones."""
ALPHA = 150


def write(folder: Path, examples: Sequence[tuple[str, Array, Array, Array]]) -> None:
    """Writes the files of each example: its name, RGB pixels, and class numbers of the true and the predicted mask.

    All three arrays are of one size, with at most `SIDE` rows and columns.
    """
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    rows = []
    for number, (name, pixels, true, predicted) in enumerate(examples):
        files = {each: f"{FOLDER}/{number:02}-{each}.{'webp' if each == 'image' else 'png'}" for each in PARTS}
        Image.fromarray(pixels).save(folder / files["image"], "WebP", quality=80)
        _layer(true).save(folder / files["true"], optimize=True)
        _layer(predicted).save(folder / files["predicted"], optimize=True)
        rows.append({"file": name, "iou": round(iou(true, predicted), 4), **files})
    (folder / EXAMPLES_FILE).write_text(json.dumps(rows))


def iou(true: Array, predicted: Array) -> float:
    """The mean over the classes, without the background, that are in one of the masks; 1 without any."""
    classes = np.union1d(true, predicted)
    shares = [
        np.sum((true == each) & (predicted == each)) / np.sum((true == each) | (predicted == each))
        for each in classes[classes > 0]
    ]
    return float(np.mean(shares)) if shares else 1.0


def _layer(mask: Array) -> Image.Image:
    """The mask in colours, transparent where there is background."""
    image = Image.fromarray(mask.astype(np.uint8))
    palette = [0, 0, 0] + [
        int(COLOURS[(number - 1) % len(COLOURS)][at : at + 2], 16) for number in range(1, 256) for at in (0, 2, 4)
    ]
    image.putpalette(palette)
    image.info["transparency"] = bytes([0] + [ALPHA] * 255)
    return image
