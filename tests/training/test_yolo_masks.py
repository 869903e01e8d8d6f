"""Segmentations in YOLO's text files: outlines as fractions of the upright image."""

from __future__ import annotations

from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from layout_projects import examined, good, parts
from PIL import Image
from projects import noise
from test_examination import only

SQUARE = "0.25 0.25 0.75 0.25 0.75 0.75 0.25 0.75"
CORNER = "0 0 0.2 0 0.2 0.2"


def yolo(project: Path, *lines: str, count: int = 6, names: str = "names: [Cup, Big Dish]\n", part: str = "") -> Path:
    (project / part / "images").mkdir(parents=True)
    (project / part / "labels").mkdir()
    for number in range(count):
        noise(crc32(f"{part}{number}".encode()), (40, 60)).save(project / part / "images" / f"{number}.png")
        (project / part / "labels" / f"{number}.txt").write_text("\n".join(lines))
    if names:
        (project / "data.yaml").write_text(names)
    return project


def mask(project: Path, found_mask: str) -> np.ndarray:
    return np.asarray(Image.open(project / found_mask))


def test_outlines_become_masks(tmp_path: Path) -> None:
    project = yolo(tmp_path / "p", f"0 {SQUARE}", f"1 {CORNER.replace('.', ',')}")
    (project / "labels" / "5.txt").unlink()
    found = good(project, "segmentation")
    assert found.layout == "YOLO text files with outlines: 6 images"
    assert (found.display, found.numbers) == (["background", "Cup", "Big Dish"], [0, 1, 2])
    drawn = mask(project, found.images[0].mask)
    assert drawn.shape == (40, 60)
    assert (drawn[20, 30], drawn[2, 6], drawn[38, 58]) == (1, 2, 0)
    assert not mask(project, found.images[5].mask).any()
    only(found.remarks, "1 images have no text file")


def test_the_split_of_folders_is_kept_and_classes_without_names_have_numbers(tmp_path: Path) -> None:
    for part, count in (("train", 6), ("valid", 3)):
        yolo(tmp_path / "p", f"0 {SQUARE}", count=count, names="", part=part)
    found = good(tmp_path / "p", "segmentation")
    assert (parts(found), found.display) == ({"train": 6, "validation": 3}, ["background", "class 0"])
    only(found.remarks, "The classes have no names")


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_outlines_belong_to_the_upright_image(tmp_path: Path, orientation: int) -> None:
    project = yolo(tmp_path / "p", f"1 {CORNER}")
    exif = Image.Exif()
    exif[0x112] = orientation
    for path in list((project / "images").iterdir()):
        Image.open(path).save(path.with_suffix(".jpg"), exif=exif)
        path.unlink()
    found = good(project, "segmentation")
    drawn = mask(project, found.images[0].mask)
    assert drawn.shape == ((60, 40) if orientation > 4 else (40, 60))
    assert (drawn[1, 2], drawn[-2, -2]) == (2, 0)


def test_boxes_alone_are_a_detection(tmp_path: Path) -> None:
    project = yolo(tmp_path / "p", "0 0.5 0.5 0.2 0.2")
    only(examined(project, "segmentation").problems, "was not recognised", "use trainType detection")


def test_a_few_boxes_are_ignored_and_many_are_a_problem(tmp_path: Path) -> None:
    project = yolo(tmp_path / "p", f"0 {SQUARE}", "x", "0 1 2 3")
    with (project / "labels" / "0.txt").open("a") as file:
        file.write("\n1 0.1 0.1 0.1 0.1")
    found = good(project, "segmentation")
    assert found.ignore == 255
    assert mask(project, found.images[0].mask)[4, 6] == 255
    only(found.remarks, "pixels in boxes without an outline are ignored", "labels/0.txt, line 4")
    only(found.remarks, "were left out", "labels/0.txt, line 2, labels/0.txt, line 3")
    for number in range(6):
        with (project / "labels" / f"{number}.txt").open("a") as file:
            file.write("\n1 0.1 0.1 0.1 0.1")
    only(examined(project, "segmentation").problems, "7 of 13 objects in the text files of YOLO")
