"""The examination of detection projects: both formats, and every kind of wrong box."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from projects import noise

from tfserve.training.examine import examine
from tfserve.training.findings import Box, Findings

WIDTH, HEIGHT = 60, 40
Change = Callable[[dict[str, Any]], None]


def coco_project(folder: Path, change: Change | None = None, *, count: int = 8) -> Path:
    """Each image has a cup and, every second one, a dish. Category ids have gaps."""
    (folder / "images" / "shelf").mkdir(parents=True)
    content: dict[str, Any] = {
        "images": [], "annotations": [], "categories": [{"id": 7, "name": "Cup"}, {"id": 3, "name": "Soup_Dish"}],
    }  # fmt: skip
    for number in range(count):
        noise(number, (HEIGHT, WIDTH)).save(folder / "images" / "shelf" / f"{number}.png")
        content["images"].append({
            "id": 100 + number, "file_name": f"shelf/{number}.png", "width": WIDTH, "height": HEIGHT,
        })  # fmt: skip
        for category in (7, 3)[: 1 + number % 2]:
            box = [5 + category, 4, 20, 10]
            content["annotations"].append({
                "id": len(content["annotations"]), "image_id": 100 + number, "category_id": category, "bbox": box,
                "area": 200,
            })  # fmt: skip
    if change is not None:
        change(content)
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder


def yolo_project(folder: Path, line: str = "0 0.5 0.5 0.5 0.5", *, parts: tuple[str, ...] = ("train", "valid")) -> Path:
    number = 0
    for part in parts:
        for name in ("images", "labels"):
            (folder / part / name).mkdir(parents=True)
        for _ in range(4):
            noise(number, (HEIGHT, WIDTH)).save(folder / part / "images" / f"{number}.jpg")
            (folder / part / "labels" / f"{number}.txt").write_text(line + "\n")
            number += 1
    (folder / "data.yaml").write_text("names: ['Red Cup', dish]\nnc: 2\n")
    return folder


def found(project: Path) -> Findings:
    return examine(str(project), "detection", {})


def test_coco_boxes_become_corners_and_categories_numbers(tmp_path: Path) -> None:
    result = found(coco_project(tmp_path / "p"))
    assert result.problems == []
    assert (result.labels, result.display, result.numbers) == (["soup dish", "cup"], ["Soup_Dish", "Cup"], [3, 7])
    assert len(result.images) == 8
    assert result.images[1].boxes == (Box(1, 12.0, 4.0, 32.0, 14.0), Box(0, 8.0, 4.0, 28.0, 14.0))


def test_yolo_keeps_the_split_of_its_folders(tmp_path: Path) -> None:
    result = found(yolo_project(tmp_path / "p"))
    assert result.problems == []
    assert result.labels == ["red cup"]
    assert [image.part for image in result.images] == ["train"] * 4 + ["validation"] * 4
    assert result.images[0].boxes == (Box(0, 15.0, 10.0, 45.0, 30.0),)
    assert any("Categories without any box were left out: dish" in each for each in result.remarks)


def test_yolo_polygons_become_the_box_around_them(tmp_path: Path) -> None:
    result = found(yolo_project(tmp_path / "p", "1 0.1 0.2 0.5 0.9 0.3 0.4"))
    assert result.images[0].boxes[0] == pytest.approx(Box(0, 6.0, 8.0, 30.0, 36.0))  # type: ignore[comparison-overlap]


def test_images_without_a_text_file_are_learnt_as_images_without_objects(tmp_path: Path) -> None:
    project = yolo_project(tmp_path / "p")
    (project / "train" / "labels" / "0.txt").unlink()
    result = found(project)
    assert result.images[0].boxes == ()
    assert any("1 of 8 images have no text file" in each for each in result.remarks)


def set_boxes(convert: Callable[[list[float]], Any]) -> Change:
    def change(content: dict[str, Any]) -> None:
        for annotation in content["annotations"]:
            annotation["bbox"] = convert(annotation["bbox"])
            annotation.pop("area")

    return change


PROBLEMS: dict[str, tuple[Change, str]] = {
    "shares": (set_boxes(lambda b: [b[0] / WIDTH, b[1] / HEIGHT, b[2] / WIDTH, b[3] / HEIGHT]), "between 0 and 1"),
    "corners": (set_boxes(lambda b: [b[0] + 20, b[1] + 20, b[0] + b[2] + 20, b[1] + b[3] + 20]), "corners"),
    "outside": (set_boxes(lambda b: [b[0] + 100, *b[1:]]), "outside of their image"),
    "negative": (set_boxes(lambda b: [*b[:3], -b[3]]), "zero or negative"),
    "not numbers": (set_boxes(lambda b: [*b[:3], "wide"]), "not four finite numbers"),
    "no lists": (lambda content: content.pop("images"), "missing: images"),
    "no boxes": (lambda content: content["annotations"].clear(), "no box in any image"),
    "unknown category": (
        lambda content: [each.update(category_id=99) for each in content["annotations"]] and None, "category_id"
    ),
    "missing images": (
        lambda content: [each.update(file_name=each["file_name"] + "x") for each in content["images"]] and None,
        "not found in the project",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_project_whose_boxes_are_mostly_wrong_is_refused_with_the_reason(tmp_path: Path, name: str) -> None:
    change, words = PROBLEMS[name]
    problems = found(coco_project(tmp_path / "p", change)).problems
    assert any(words in each for each in problems), problems


def test_a_few_wrong_boxes_are_left_out_with_a_remark(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["annotations"][0]["bbox"] = [500, 4, 20, 10]
        content["annotations"].append({**content["annotations"][1], "id": 50})
        content["annotations"][3]["bbox"] = [50, 30, 40, 8]

    result = found(coco_project(tmp_path / "p", change))
    assert result.problems == []
    remarks = "\n".join(result.remarks)
    assert "1 of 13 annotations were left out: 1 outside of their image" in remarks
    assert "[500, 4, 20, 10] in 0.png with 60x40 pixels" in remarks
    assert "there twice" in remarks
    assert "cut at the edge" in remarks
    assert result.images[0].boxes == ()


def test_boxes_drawn_on_a_rotated_photograph_are_rotated_with_it(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        for image in content["images"]:
            image["file_name"] = image["file_name"].replace(".png", ".jpg")

    project = coco_project(tmp_path / "p", change)
    for file in (project / "images" / "shelf").glob("*.png"):
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.open(file).save(file.with_suffix(".jpg"), exif=exif, quality=95)
        file.unlink()
    image = found(project).images[0]
    expected = {
        (WIDTH, HEIGHT): Box(1, 12.0, 4.0, 32.0, 14.0),
        (HEIGHT, WIDTH): Box(1, HEIGHT - 14.0, 12.0, HEIGHT - 4.0, 32.0),
    }
    assert image.boxes == (expected[image.width, image.height],)


def test_images_of_another_size_than_stated_have_their_boxes_scaled(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        for image in content["images"]:
            image |= {"width": WIDTH * 2, "height": HEIGHT * 2}

    result = found(coco_project(tmp_path / "p", change))
    assert result.images[0].boxes == (Box(1, 6.0, 2.0, 16.0, 7.0),)
    assert any("boxes were scaled" in each for each in result.remarks)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0 30 20 10 10", "boxes in the text files are in pixels"),
        ("cup 0.5 0.5 0.1 0.1", "not 'class x y width height'"),
        ("0 0.5 0.5 nan 0.1", "not 'class x y width height'"),
        ("0 0.5 0.5 0.1 0.1 7", "not 'class x y width height'"),
        ("-1 0.5 0.5 0.1 0.1", "negative class number"),
        ("5 0.5 0.5 0.1 0.1", "names only 2 classes"),
    ],
)
def test_wrong_lines_of_yolo_files_are_refused_with_the_reason(tmp_path: Path, line: str, words: str) -> None:
    problems = found(yolo_project(tmp_path / "p", line)).problems
    assert any(words in each for each in problems), problems


@pytest.mark.parametrize("text", ["{", "[]", '{"images": 3}', "\xff"])
def test_a_file_that_is_no_coco_file_is_refused(tmp_path: Path, text: str) -> None:
    project = coco_project(tmp_path / "p")
    (project / "annotations.json").write_text(text, "latin-1")
    assert any("annotations.json" in each for each in found(project).problems)


def test_a_project_without_annotations_names_what_was_found(tmp_path: Path) -> None:
    (tmp_path / "p" / "pictures").mkdir(parents=True)
    (problem,) = found(tmp_path / "p").problems
    assert "Found: 1 folders (pictures/)" in problem


def test_crowds_are_kept_apart_and_polygons_stand_in_for_missing_boxes(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["annotations"][0]["iscrowd"] = 1
        del content["annotations"][1]["bbox"]
        content["annotations"][1]["segmentation"] = [[1, 2, 11, 2, 11, 22]]

    result = found(coco_project(tmp_path / "p", change))
    assert result.images[0].boxes[0].crowd
    assert result.images[1].boxes[0] == Box(1, 1.0, 2.0, 11.0, 22.0)
