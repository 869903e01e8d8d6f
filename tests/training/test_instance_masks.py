"""Masks whose numbers count objects are remarked on, those of classes are not. No TensorFlow is needed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from layout_projects import good, pictures
from PIL import Image
from test_examination import only

SIDE = 16
"""Of the pictures."""


def cells(count: int, number_of: Callable[[int], int]) -> np.ndarray:
    """A mask with this many squares in rows of four."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    for at in range(count):
        top, left = 4 * (at // 4), 4 * (at % 4)
        mask[top : top + 3, left : left + 3] = number_of(at)
    return mask


def project_of(project: Path, masks: list[np.ndarray]) -> Path:
    for path, mask in zip(pictures(project / "images", len(masks)), masks, strict=True):
        (project / "labels").mkdir(exist_ok=True)
        Image.fromarray(mask).save(project / "labels" / path.name)
    return project


def test_masks_that_number_their_objects_are_remarked_on(tmp_path: Path) -> None:
    masks = [cells(count, lambda at: at + 1) for count in (3, 5, 8, 12, 4, 0)]
    found = good(project_of(tmp_path / "p", masks), "segmentation")
    only(found.remarks, "look like those of single objects, not of classes")


def test_masks_of_classes_are_not(tmp_path: Path) -> None:
    several_regions = [cells(count, lambda at: at % 3 + 1) for count in (1, 2, 5, 8, 12, 16)]
    same_classes = [cells(3, lambda at: at + 1) for _ in range(6)]
    with_gaps = [cells(2, lambda at, n=n: (n, n + 4)[at]) for n in range(1, 7)]
    for number, masks in enumerate((several_regions, same_classes, with_gaps)):
        found = good(project_of(tmp_path / f"p{number}", masks), "segmentation")
        assert not [remark for remark in found.remarks if "single objects" in remark]


def test_names_of_the_numbers_are_believed(tmp_path: Path) -> None:
    project = project_of(tmp_path / "p", [cells(count, lambda at: at + 1) for count in (3, 5, 8, 4)])
    (project / "labels_info.txt").write_text("label,number\n" + "".join(f"organ {n},{n}\n" for n in range(1, 9)))
    assert not [remark for remark in good(project, "segmentation").remarks if "single objects" in remark]
