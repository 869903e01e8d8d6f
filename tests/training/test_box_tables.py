"""Boxes in tables (TensorFlow, RetinaNet, Kaggle) and in files of labelme."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from test_box_formats import CORNERS, HEIGHT, WIDTH, coco_project, draw, found, good, objects
from test_examination import only

NAMES = [f"{number:03}.jpg" for number in range(12)]
CUP = ("Cup", CORNERS)


def table(project: Path, *lines: str, name: str = "boxes.csv", names: list[str] = NAMES) -> Path:
    """The lines, in which {image} is the name of each image, after the first."""
    draw(project / "images", *names)
    header, *rows = lines
    (project / name).parent.mkdir(parents=True, exist_ok=True)
    text = "\n".join([header, *(row.format(image=image) for image in names for row in rows)])
    (project / name).write_text(f"{text}\n", encoding="utf-8")
    return project


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("filename,width,height,class,xmin,ymin,xmax,ymax", "{image},60,40,Cup,10,5,30,15"),
        ("image;x1;y1;x2;y2;label", "{image};10;5;30;15;Cup"),
        ("image_path,x0,y0,x1,y1,name", "images/{image},10,5,30,15,Cup"),
        ("file,label,x,y,w,h", "{image},Cup,10,5,20,10"),
        ("file,label,left,top,width,height,image_width,image_height", "{image},Cup,10,5,20,10,60,40"),
        ("file,label,x_center,y_center,width,height", "{image},Cup,20,10,20,10"),
        ("image_id,width,height,bbox,category", '{image},60,40,"[10.0, 5.0, 20.0, 10.0]",Cup'),
        ("ImageID,Source,LabelName,XMin,XMax,YMin,YMax", "{image},x,Cup,0.166666667,0.5,0.125,0.375"),
        ("image;xmin;ymin;xmax;ymax;label", "{image};10,0;5,000;30;15,0;Cup"),
        ("image\tlabel\txcenter\tycenter\twidth\theight", "{image}\tCup\t0,333333333\t0,25\t3,33333333E-1\t0,25"),
    ],
)
def test_columns_are_recognised_by_their_names(tmp_path: Path, header: str, row: str) -> None:
    result = good(table(tmp_path / "p", header, row))
    assert result.layout == "a table of boxes: boxes.csv"
    assert result.display == ["Cup"]
    assert all(boxes == [CUP] for boxes in objects(result).values())
    assert len(result.images) == len(NAMES)


def test_commas_that_may_separate_thousands_are_no_numbers(tmp_path: Path) -> None:
    project = table(tmp_path / "p", "image;xmin;ymin;xmax;ymax;label", "{image};1,001;5;1,030;15;Cup")
    only(found(project).problems, "12 rows without four finite numbers", "1,001, 5, 1,030, 15")


def test_a_table_of_retinanet_has_no_header_and_rows_without_a_box(tmp_path: Path) -> None:
    project = table(tmp_path / "p", "images/000.jpg,1,2,21,32,Big Dish", "images/{image},10,5,30,15,Cup")
    draw(project / "images", "empty.jpg")
    with (project / "boxes.csv").open("a") as file:
        file.write("images/empty.jpg,,,,,\n")
    boxes = objects(good(project))
    assert boxes["images/000.jpg"] == [("Big Dish", (1.0, 2.0, 21.0, 32.0)), CUP]
    assert (boxes["images/001.jpg"], boxes["images/empty.jpg"]) == ([CUP], [])


def test_a_table_in_each_part_is_the_users_split(tmp_path: Path) -> None:
    header, row = "filename,width,height,class,xmin,ymin,xmax,ymax", "{image},60,40,Cup,10,5,30,15"
    for part, names in (("train", NAMES[:8]), ("valid", NAMES[8:])):
        draw(tmp_path / "p" / part, *names)
        lines = [header, *(row.format(image=name) for name in names)]
        (tmp_path / "p" / part / "_annotations.csv").write_text("\n".join(lines))
    images = good(tmp_path / "p").images
    assert [image.part for image in images] == ["train"] * 8 + ["validation"] * 4


def test_the_name_of_the_table_is_the_part(tmp_path: Path) -> None:
    row = "{image},Cup,10,5,30,15"
    for name, names in (("train_labels.csv", NAMES[:8]), ("test_labels.csv", NAMES[8:])):
        table(tmp_path / "p", "filename,class,xmin,ymin,xmax,ymax", row, name=name, names=names)
    assert {image.part for image in good(tmp_path / "p").images} == {"train", "test"}


def test_without_a_column_of_classes_all_boxes_are_objects(tmp_path: Path) -> None:
    result = good(table(tmp_path / "p", "image_id,bbox", '{image},"[10, 5, 20, 10]"'))
    assert result.display == ["object"]
    only(result.remarks, "boxes.csv has no column of classes", "'object'")


def test_wrong_rows_are_named(tmp_path: Path) -> None:
    project = table(tmp_path / "p", "filename,class,xmin,ymin,xmax,ymax", "{image},Cup,10,5,30,15")
    with (project / "boxes.csv").open("a") as file:
        file.write("000.jpg,Cup,a,5,30,15\n000.jpg,,10,5,30,15\nlost.jpg,Cup,1,1,5,5\n")
    result = good(project)
    only(result.remarks, "2 of 14 annotations were left out", "boxes.csv, line 14: a, 5, 30, 15", "no class")
    only(result.remarks, "1 of 13 annotated images were not found", "lost.jpg")


def test_a_table_of_labels_is_no_table_of_boxes(tmp_path: Path) -> None:
    only(found(table(tmp_path / "p", "file,label", "{image},Cup")).problems, "No boxes found", "CSV or JSON file")


# --- JSON

SIDES = {"xmin": 10, "ymin": 5, "xmax": 30, "ymax": 15}
RECTANGLE = {"name": "rect", "x": 10, "y": 5, "width": 20, "height": 10}
POLYGON = {"name": "polygon", "all_points_x": [10, 30, 20], "all_points_y": [5, 6, 15]}


def via(shape: dict[str, object]) -> dict[str, object]:
    region = {"shape_attributes": shape, "region_attributes": {"type": "Cup"}}
    return {f"{name}123": {"filename": name, "size": 123, "regions": [region], "file_attributes": {}} for name in NAMES}


JSON = {
    "records of boxes": [{"image": name, "label": "Cup"} | SIDES for name in NAMES],
    "boxes of each image": [{"image": name, "boxes": [{"label": "Cup"} | SIDES]} for name in NAMES],
    "ImageFolder": [
        {"file_name": name, "objects": {"bbox": [[10, 5, 20, 10]], "categories": ["Cup"]}} for name in NAMES
    ],
    "CreateML": [
        {"image": name, "annotations": [{"label": "Cup", "coordinates": {"x": 20, "y": 10, "width": 20, "height": 10}}]}
        for name in NAMES
    ],
    "VIA": via(RECTANGLE),
    "VIA with polygons": via(POLYGON),
    "a project of VIA": {"_via_settings": {"ui": {}, "core": {}}, "_via_img_metadata": via(RECTANGLE)},
}


@pytest.mark.parametrize("form", JSON)
def test_boxes_in_json_of_other_programs_are_read(tmp_path: Path, form: str) -> None:
    draw(tmp_path / "p" / "images", *NAMES)
    (tmp_path / "p" / "boxes.json").write_text(json.dumps(JSON[form]))
    result = good(tmp_path / "p")
    assert (result.layout, result.display) == ("a table of boxes: boxes.json", ["Cup"])
    assert list(objects(result).values()) == [[CUP]] * len(NAMES)


def test_images_without_objects_and_shapes_without_an_area_in_json(tmp_path: Path) -> None:
    content = via(RECTANGLE)
    content["000.jpg123"] = {"filename": "000.jpg", "regions": []}
    content["001.jpg123"] = {
        "filename": "001.jpg",
        "regions": [{"shape_attributes": {"name": "point", "cx": 1, "cy": 2}, "region_attributes": {"type": "Cup"}}],
    }
    draw(tmp_path / "p" / "images", *NAMES)
    (tmp_path / "p" / "boxes.json").write_text(json.dumps(content))
    result = good(tmp_path / "p")
    assert objects(result)["images/000.jpg"] == []
    only(result.remarks, "1 of 11 annotations were left out", "boxes.json, entry 2")


# --- labelme


def labelme_file(project: Path, name: str, *shapes: dict[str, object]) -> None:
    draw(project, name)
    content = {"shapes": shapes, "imagePath": name, "imageWidth": WIDTH, "imageHeight": HEIGHT, "imageData": None}
    (project / name).with_suffix(".json").write_text(json.dumps(content))


def shape(label: str, kind: str, *points: tuple[float, float]) -> dict[str, object]:
    return {"label": label, "shape_type": kind, "points": points}


def test_shapes_of_labelme_become_boxes(tmp_path: Path) -> None:
    shapes = (
        shape("Cup", "rectangle", (30, 15), (10, 5)), shape("Dish", "polygon", (40, 10), (55, 20), (42, 35)),
        shape("Dish", "circle", (20, 20), (25, 20)), shape("__ignore__", "rectangle", (1, 1), (9, 9)),
        shape("Cup", "point", (3, 3)),
    )  # fmt: skip
    for name in NAMES:
        labelme_file(tmp_path / "p", name, *shapes)
    result = good(tmp_path / "p")
    assert result.layout == "labelme: 12 images with a JSON file of shapes each"
    assert objects(result)["000.jpg"] == [
        CUP, ("Dish", (40.0, 10.0, 55.0, 35.0)), ("Dish", (15.0, 15.0, 25.0, 25.0)),
    ]  # fmt: skip
    only(result.remarks, "12 shapes of type 'point' have no area")


def test_messages_count_the_shapes_of_the_file(tmp_path: Path) -> None:
    shapes = (
        shape("__ignore__", "rectangle", (1, 1), (9, 9)), shape("Cup", "point", (3, 3)),
        shape("Cup", "rectangle", (100, 5), (120, 15)), shape("Cup", "rectangle", (30, 15), (10, 5)),
    )  # fmt: skip
    for name in NAMES:
        labelme_file(tmp_path / "p", name, *shapes)
    only(found(tmp_path / "p").problems, "outside of their image", "000.jpg, shape 3")


def old_labelme(project: Path, count: int = 12) -> None:
    """Files of labelme that were left when their images were deleted."""
    for number in range(count):
        labelme_file(project / "old", f"x{number}.jpg", shape("Cup", "rectangle", (30, 15), (10, 5)))
        (project / "old" / f"x{number}.jpg").unlink()


@pytest.mark.parametrize("form", ["COCO", "a table"])
def test_files_of_labelme_without_images_dont_matter_next_to_other_boxes(tmp_path: Path, form: str) -> None:
    if form == "COCO":
        coco_project(tmp_path / "p")
    else:
        table(tmp_path / "p", "filename,class,xmin,ymin,xmax,ymax", "{image},Cup,10,5,30,15")
    old_labelme(tmp_path / "p")
    result = good(tmp_path / "p")
    assert (result.display, result.skipped) == (["Cup"], [])


def test_files_of_labelme_without_images_are_named_if_nothing_else_is_there(tmp_path: Path) -> None:
    old_labelme(tmp_path / "p")
    only(
        found(tmp_path / "p").problems, "No file of labelme can be used (12 found, such as old/x0.json: missing: image"
    )


def test_json_without_any_field_of_a_table_is_no_table(tmp_path: Path) -> None:
    table(tmp_path / "p", "filename,class,xmin,ymin,xmax,ymax", "{image},Cup,10,5,30,15")
    (tmp_path / "p" / "notes.json").write_text(json.dumps([{"polygon": [[1, 2], [3, 4]]}] * 2))
    assert good(tmp_path / "p").display == ["Cup"]


def test_boxes_of_via_are_around_the_shapes_that_masks_have(tmp_path: Path) -> None:
    draw(tmp_path / "p" / "images", *NAMES)
    upright = {"name": "ellipse", "cx": 30, "cy": 20, "rx": 10, "ry": 15, "theta": math.pi / 2}
    (tmp_path / "p" / "boxes.json").write_text(json.dumps(via(upright)))
    assert objects(good(tmp_path / "p"))["images/000.jpg"] == [("Cup", (15.0, 10.0, 45.0, 30.0))]
