"""Segmentations in files of the VGG Image Annotator."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layout_projects import examined, good
from PIL import Image
from projects import noise
from test_examination import only

POLYGON = {"name": "polygon", "all_points_x": [10, 50, 50, 10], "all_points_y": [10, 10, 30, 30]}
SHAPES = {
    "polygon": POLYGON,
    "rectangle": {"name": "rect", "x": 10, "y": 10, "width": 40, "height": 20},
    "circle": {"name": "circle", "cx": 30, "cy": 20, "r": 12},
    "ellipse": {"name": "ellipse", "cx": 30, "cy": 20, "rx": 10, "ry": 20, "theta": 1.5708},
}


def project(folder: Path, *regions: dict[str, Any], whole: bool = False, count: int = 6) -> Path:
    (folder / "images").mkdir(parents=True)
    content = {}
    for number in range(count):
        noise(number, (40, 60)).save(folder / "images" / f"{number}.png")
        content[f"{number}.png99"] = {"filename": f"{number}.png", "size": 99, "regions": list(regions)}
    written = {"_via_settings": {"ui": {}}, "_via_img_metadata": content} if whole else content
    (folder / "via.json").write_text(json.dumps(written))
    return folder


def region(shape: dict[str, Any], **attributes: Any) -> dict[str, Any]:
    return {"shape_attributes": shape, "region_attributes": attributes}


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_regions_become_masks(tmp_path: Path, shape: str, whole: bool) -> None:
    folder = project(tmp_path / "p", region(SHAPES[shape], type="Cup"), whole=whole)
    found = good(folder, "segmentation")
    assert (found.layout, found.display) == ("VGG Image Annotator: 6 images with outlines", ["background", "Cup"])
    mask = np.asarray(Image.open(folder / found.images[0].mask))
    assert (mask[20, 30], mask[20, 42 if shape == "circle" else 47], mask[3, 3], mask[38, 30]) == (1, 1, 0, 0)


def test_classes_may_be_checkboxes_and_regions_without_an_area_are_reported(tmp_path: Path) -> None:
    dish = region(POLYGON, kind={"Cup": False, "Dish": True})
    point = region({"name": "point", "cx": 1, "cy": 2}, kind="Cup")
    found = good(project(tmp_path / "p", dish, point), "segmentation")
    assert found.display == ["background", "Dish"]
    only(found.remarks, "Regions without an area were left out", "via.json: 0.png, region 2")


def test_a_region_without_attributes_is_an_object(tmp_path: Path) -> None:
    assert good(project(tmp_path / "p", region(POLYGON)), "segmentation").display == ["background", "object"]


def test_images_that_are_missing_are_named(tmp_path: Path) -> None:
    folder = project(tmp_path / "p", region(POLYGON), count=12)
    (folder / "images" / "3.png").unlink()
    (skipped,) = good(folder, "segmentation").skipped
    assert (skipped.path, skipped.reason) == ("3.png", "missing: named in via.json")


def test_no_region_at_all_is_a_problem(tmp_path: Path) -> None:
    only(examined(project(tmp_path / "p"), "segmentation").problems, "outline", "Annotate at least one object")
