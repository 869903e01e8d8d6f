"""The lists of a training's page, each with pages of its own: a training may have any number of classes and images."""

from __future__ import annotations

from typing import Any

from django.http import QueryDict

from tfserve.db.models import TrainingTask
from tfserve.web.pages.box_examples import BoxExample
from tfserve.web.pages.listing import Shown, escaped_size, fitting
from tfserve.web.pages.training_results import HeldOutImage, MaskExample, TrainingResult

LABEL_BYTES, SKIPPED_BYTES = 2500, 2000
QUALITY_BYTES, GALLERY_BYTES, BOXES_BYTES, MASKS_BYTES = 5000, 4500, 9000, 6000
"""What each list may take."""


def lists(query: QueryDict, task: TrainingTask, result: TrainingResult | None) -> dict[str, Shown]:
    """By the names that the templates use. The page of each is the parameter of the query of that name."""
    dataset: dict[str, Any] = task.dataset or {}
    found = {
        "labels": fitting(query, "labels", dataset.get("classes") or [], LABEL_BYTES, _label_size),
        "skipped": fitting(query, "skipped", task.skipped or [], SKIPPED_BYTES, _skipped_size),
    }
    if result is None:
        return found
    return found | {
        "classes": fitting(query, "classes", result.per_class, QUALITY_BYTES, _class_size),
        "mistakes": fitting(query, "mistakes", result.mistakes, GALLERY_BYTES, _image_size),
        "boxes": fitting(query, "boxes", result.box_examples, BOXES_BYTES, _boxes_size),
        "masks": fitting(query, "masks", result.mask_examples, MASKS_BYTES, _masks_size),
    }


def cell(query: QueryDict, result: TrainingResult) -> dict[str, Any]:
    """The images of the cell `?cell=<true>-<predicted>` of the confusion matrix; empty if no cell is open."""
    numbers = query.get("cell", "").split("-")
    if len(numbers) != 2 or not all(each.isascii() and each.isdigit() and len(each) < 9 for each in numbers):
        return {}
    true, predicted = map(int, numbers)
    images = result.of_cell(true, predicted)
    return {
        "cell": (true, predicted),
        "cell_images": fitting(query, "images", images, GALLERY_BYTES, _image_size),
        "cell_names": [result.labels[n] for n in (true, predicted) if n < len(result.labels)],
    }


def _label_size(each: dict[str, Any]) -> int:
    return 55 + escaped_size(each["display"])


def _skipped_size(each: dict[str, Any]) -> int:
    return 45 + escaped_size(each["path"], each["reason"])


def _class_size(each: dict[str, Any]) -> int:
    return 60 * len(each) + escaped_size(each["label"], *each)


def _image_size(each: HeldOutImage) -> int:
    return 320 + escaped_size(each.url, each.url, each.file, each.true, each.predicted)


def _boxes_size(each: BoxExample) -> int:
    drawn = sum(230 + escaped_size(box.text) for box in each.boxes)
    return 500 + drawn + escaped_size(each.image, each.image, each.file, each.file, each.summary, each.summary)


def _masks_size(each: MaskExample) -> int:
    return 500 + escaped_size(each.image, each.image, each.true, each.predicted, each.file, each.file, each.file)
