"""The outputs of a detector: boxes, scores, labels and their number, for each image.

`boxes` (count, n, 4) are left, top, right and bottom as fractions of width and height, `scores` (count, n) are ordered,
`labels` (count, n) are class numbers, `count` (count) is the number of boxes; the remaining rows are padding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tfserve.errors import Invalid
from tfserve.runtimes.image_spec import ImageSpec
from tfserve.runtimes.interface import listed
from tfserve.tensors.specs import Array, TensorSpec

BOXES, SCORES, LABELS, COUNT = NAMES = ("boxes", "scores", "labels", "count")
_RANKS = {BOXES: 3, SCORES: 2, LABELS: 2, COUNT: 1}


def choose(outputs: Sequence[TensorSpec]) -> list[TensorSpec]:
    """The four outputs, in the order of `NAMES`. Raises `Invalid`."""
    by_name = {each.name: each for each in outputs}
    if missing := [name for name in NAMES if name not in by_name]:
        raise Invalid(
            f"image: expected the outputs of a detector, {listed(NAMES)}; missing: {listed(missing)}. The model has:"
            f" {listed(list(by_name))}."
        )
    for name in NAMES:
        shape = by_name[name].shape
        if shape is not None and len(shape) != _RANKS[name]:
            raise Invalid(f"image: the output {name!r} is {by_name[name]}. Expected {_RANKS[name]} dimensions.")
    return [by_name[name] for name in NAMES]


def for_files(outputs: Mapping[str, Array], sizes: Array, spec: ImageSpec) -> dict[str, Array]:
    """The outputs for files: boxes in pixels of each file, whose height and width are in `sizes`, and names as labels.

    Raises `Invalid`.
    """
    boxes, scores, numbers = (np.array(outputs[name]) for name in (BOXES, SCORES, LABELS))
    counts = outputs[COUNT].reshape(-1, 1)
    images = scores.shape[:1]
    if not (
        boxes.shape == (*scores.shape, 4)
        and scores.ndim == _RANKS[SCORES]
        and numbers.shape == scores.shape
        and counts.shape == (*images, 1)
    ):
        given = ", ".join(f"{name} {outputs[name].shape}" for name in NAMES)
        raise Invalid(
            "The outputs of the detector do not match: expected boxes (images, n, 4), scores and labels (images, n) and"
            f" count (images); given {given}."
        )
    places = np.arange(scores.shape[1])
    kept = places < counts
    height, width = np.split(sizes.astype(np.float32), 2, axis=1)
    sides = np.stack([width, height, width, height], axis=2)
    boxes = np.where(kept[..., np.newaxis], boxes.astype(np.float32) * sides, np.float32(0))
    return {
        BOXES: boxes, SCORES: np.where(kept, scores, 0).astype(np.float32), LABELS: _names(numbers, kept, spec.labels),
        COUNT: kept.sum(axis=1, dtype=np.int32),
    }  # fmt: skip


def _names(numbers: Array, kept: Array, labels: Sequence[str]) -> Array:
    found = np.full(numbers.shape, b"", object)
    for place in zip(*np.nonzero(kept), strict=True):
        number = int(numbers[place])
        if labels and not 0 <= number < len(labels):
            raise Invalid(f"image: labels has {len(labels)} names, but the model returned class {number}.")
        found[place] = (labels[number] if labels else str(number)).encode()
    return found
