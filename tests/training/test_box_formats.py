"""Annotations of boxes as other programs write them: COCO, YOLO and Pascal VOC, with all their habits."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from projects import noise

from tfserve.training.dataset.dataset_index import Box, Findings
from tfserve.training.dataset.examine import examine

WIDTH, HEIGHT = 60, 40
BOX = [10, 5, 20, 10]
"""In COCO's order."""
CORNERS = (10.0, 5.0, 30.0, 15.0)


def found(project: Path) -> Findings:
    return examine(str(project), "detection", {})


def good(project: Path) -> Findings:
    result = found(project)
    assert result.problems == []
    return result


def draw(folder: Path, *names: str) -> None:
    """Different images with these names."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        noise(zlib.crc32(name.encode()), (HEIGHT, WIDTH)).save(folder / name)


def corners(box: Box) -> tuple[float, ...]:
    return box.left, box.top, box.right, box.bottom


def objects(result: Findings) -> dict[str, list[tuple[str, tuple[float, ...]]]]:
    """For each image the display names and corners of its boxes."""
    return {
        image.path: [(result.display[box.label], tuple(round(side, 3) for side in corners(box))) for box in image.boxes]
        for image in result.images
    }


# --- COCO


def coco_file(file: Path, names: list[str], change: Callable[[dict[str, Any]], Any] | None = None) -> None:
    """A cup in each image, and Dish as an unused category."""
    content: dict[str, Any] = {
        "images": [
            {"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT} for number, name in enumerate(names)
        ],
        "categories": [{"id": 3, "name": "Cup"}, {"id": 8, "name": "Dish"}],
        "annotations": [
            {"id": number, "image_id": number, "category_id": 3, "bbox": list(BOX)} for number in range(len(names))
        ],
    }  # fmt: skip
    if change is not None:
        change(content)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))


def coco_project(folder: Path, change: Callable[[dict[str, Any]], Any] | None = None) -> Path:
    names = [f"{number}.png" for number in range(6)]
    draw(folder / "images", *names)
    coco_file(folder / "annotations.json", names, change)
    return folder


def each(content: dict[str, Any], what: str, change: Callable[[dict[str, Any]], Any]) -> None:
    for entry in content[what]:
        change(entry)


COCO_HABITS: Mapping[str, Callable[[dict[str, Any]], Any]] = {
    "ids are text in one list": lambda c: each(c, "annotations", lambda e: e.update(image_id=str(e["image_id"]))),
    "ids are floats": lambda c: each(c, "images", lambda e: e.update(id=float(e["id"]))),
    "category ids are text": lambda c: each(c, "annotations", lambda e: e.update(category_id=" 3")),
    "no sizes": lambda c: each(c, "images", lambda e: (e.pop("width"), e.pop("height"))),
    "sizes are text": lambda c: each(c, "images", lambda e: e.update(width="60", height="40")),
    "names of Windows": lambda c: each(c, "images", lambda e: e.update(file_name="C:\\images\\" + e["file_name"])),
    "a leading path": lambda c: each(c, "images", lambda e: e.update(file_name="./images/" + e["file_name"])),
    "a path of another machine": lambda c: each(c, "images", lambda e: e.update(file_name="/home/x/" + e["file_name"])),
    "no suffixes": lambda c: each(c, "images", lambda e: e.update(file_name=e["file_name"][:-4])),
    "null fields": lambda c: each(c, "annotations", lambda e: e.update(area=None, iscrowd=None, segmentation=None)),
    "outlines instead of boxes": lambda c: each(
        c, "annotations", lambda e: e.update(bbox=[], segmentation=[[10, 5, 30, 5, 30, 15]])
    ),
    "two outlines": lambda c: each(
        c, "annotations", lambda e: e.update(bbox=None, segmentation=[[10, 5, 12, 5, 12, 7], [20, 9, 30, 9, 30, 15]])
    ),
    "run lengths instead of boxes": lambda c: each(
        c, "annotations", lambda e: (e.pop("bbox"), e.update(segmentation=run_lengths()))
    ),
}  # fmt: skip


def run_lengths() -> dict[str, Any]:
    """The mask of the box, as columns from top to bottom."""
    counts = [10 * HEIGHT + 5]
    for _ in range(20):
        counts += [10, HEIGHT - 10]
    counts[-1] = 30 * HEIGHT + HEIGHT - 15
    return {"size": [HEIGHT, WIDTH], "counts": counts}


@pytest.mark.parametrize("habit", COCO_HABITS)
def test_habits_of_programs_that_write_coco_change_nothing(tmp_path: Path, habit: str) -> None:
    result = good(coco_project(tmp_path / "p", COCO_HABITS[habit]))
    assert (result.display, result.numbers) == (["Cup"], [3])
    assert list(objects(result).values()) == [[("Cup", CORNERS)]] * 6


def test_names_of_images_may_differ_in_capitals_and_folders(tmp_path: Path) -> None:
    """As written on a system that does not tell them apart."""
    draw(tmp_path / "images", *(f"IMG_{number}.JPG" for number in range(12)))
    names = [f"D:\\Fotos\\2024\\img_{number}.jpg" for number in range(12)]
    coco_file(tmp_path / "annotations.json", names)
    assert len(good(tmp_path).images) == 12


def test_of_two_names_that_differ_in_capitals_only_the_exact_one_counts(tmp_path: Path) -> None:
    draw(tmp_path / "images", *(f"a{number}.png" for number in range(12)), "A0.PNG")
    coco_file(tmp_path / "annotations.json", [f"a{number}.png" for number in range(12)])
    assert "images/A0.PNG" not in objects(good(tmp_path))


def test_the_export_of_roboflow_keeps_its_split(tmp_path: Path) -> None:
    project = tmp_path / "p"
    for part, count in (("train", 4), ("valid", 2), ("test", 1)):
        names = [f"a_jpg.rf.{part}{number}.jpg" for number in range(count)]
        draw(project / part, *names)
        coco_file(project / part / "_annotations.coco.json", names)
    (project / "README.roboflow.txt").write_text("exported by roboflow")
    parts = sorted(image.part for image in good(project).images)
    assert parts == ["test"] + ["train"] * 4 + ["validation"] * 2


def test_files_that_number_their_classes_differently_are_matched_by_name(tmp_path: Path) -> None:
    project = tmp_path / "p"
    for part, ids in (("train", (1, 2)), ("valid", (2, 1))):
        names = [f"{part}{number}.png" for number in range(3)]
        draw(project / part, *names)

        def change(content: dict[str, Any], ids: tuple[int, int] = ids) -> None:
            content["categories"] = [{"id": ids[0], "name": "Cup"}, {"id": ids[1], "name": "Dish"}]
            for number, annotation in enumerate(content["annotations"]):
                annotation["category_id"] = ids[number % 2]

        coco_file(project / part / "_annotations.coco.json", names, change)
    result = good(project)
    names_of = {path: boxes[0][0] for path, boxes in objects(result).items()}
    assert names_of == {
        f"{part}/{part}{number}.png": ("Cup", "Dish")[number % 2] for part in ("train", "valid") for number in range(3)
    }


def test_two_categories_of_one_name_are_one_class(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["categories"][1]["name"] = "Cup"
        content["annotations"][0]["category_id"] = 8

    result = good(coco_project(tmp_path / "p", change))
    assert result.display == ["Cup"]
    assert any("all called 'Cup'" in remark for remark in result.remarks)


AMBIGUOUS: Mapping[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "one id for two categories": (
        lambda c: c["categories"].append({"id": 3, "name": "Plate"}), "category id 3 is used for both 'Cup' and 'Plate'"
    ),
    "one id for two images": (
        lambda c: c["images"][1].update(id=0), "image id 0 is used for both 0.png and 1.png"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", AMBIGUOUS)
def test_ids_that_are_used_twice_are_a_problem(tmp_path: Path, case: str) -> None:
    change, words = AMBIGUOUS[case]
    assert any(words in problem for problem in found(coco_project(tmp_path / "p", change)).problems)


def test_the_file_may_have_any_name_and_other_json_files_are_passed_over(tmp_path: Path) -> None:
    project = coco_project(tmp_path / "p")
    (project / "annotations.json").rename(project / "result.json")
    (project / "notes.json").write_text('{"info": 1}')
    (project / "broken.json").write_text("{")
    assert len(good(project).images) == 6


def test_the_files_of_a_coco_download_are_not_counted_twice(tmp_path: Path) -> None:
    project = tmp_path / "p"
    for part in ("train2017", "val2017"):
        names = [f"{part}{number}.jpg" for number in range(4)]
        draw(project / part, *names)
        coco_file(project / "annotations" / f"instances_{part}.json", names)
        coco_file(project / "annotations" / f"person_keypoints_{part}.json", names)
        captions = {"images": [], "annotations": [{"image_id": 1, "caption": "a cup"}]}
        (project / "annotations" / f"captions_{part}.json").write_text(json.dumps(captions))
    result = good(project)
    assert {image.part for image in result.images} == {"train", "validation"}
    assert not any("twice" in remark for remark in result.remarks)


def test_images_without_annotations_are_learnt_as_images_without_objects(tmp_path: Path) -> None:
    result = good(coco_project(tmp_path / "p", lambda content: content["annotations"].pop()))
    assert [len(image.boxes) for image in result.images] == [1] * 5 + [0]


@pytest.mark.parametrize(
    "bbox", [[10, 5, 0, 10], [10, 5, -20, 10], [10, 5, float("nan"), 10], [10, 5, 20], [10, 5, "20", 10], "none", {}]
)
def test_a_single_wrong_box_is_left_out_and_named(tmp_path: Path, bbox: Any) -> None:
    result = good(coco_project(tmp_path / "p", lambda content: content["annotations"][2].update(bbox=bbox)))
    assert [len(image.boxes) for image in result.images] == [1, 1, 0, 1, 1, 1]
    assert any("annotations.json, annotation 2" in remark for remark in result.remarks)


def test_json_that_is_cut_off_is_a_problem_with_its_line(tmp_path: Path) -> None:
    project = coco_project(tmp_path / "p")
    text = json.dumps(json.loads((project / "annotations.json").read_text()), indent=1)
    (project / "annotations.json").write_text(text[:200])
    (problem,) = found(project).problems
    assert "annotations.json is not valid JSON" in problem
    assert "line" in problem


@pytest.mark.parametrize("orientation", [2, 3, 4, 5, 6, 7, 8])
def test_boxes_follow_the_orientation_of_photographs(tmp_path: Path, orientation: int) -> None:
    """A bright rectangle is where the box is, whether the box was drawn on the stored image or on the upright one."""
    from tfserve.training.dataset import image_reading as files

    project = tmp_path / "p"
    (project / "images").mkdir(parents=True)
    names = [f"{number}.png" for number in range(6)]
    for number, name in enumerate(names):
        image = noise(number, (HEIGHT, WIDTH)).point(lambda value: value // 4)
        image.paste((255, 255, 255), (10, 5, 30, 15))
        exif = Image.Exif()
        exif[0x0112] = orientation if number else 6  # the first shows which image boxes were drawn on
        image.save(project / "images" / name, exif=exif)
    coco_file(project / "annotations.json", names)
    for image in good(project).images:
        box = image.boxes[0]
        left, top, right, bottom = (round(side) for side in corners(box))
        pixels = files.decoded((project / image.path).read_bytes(), (255, 255, 255))
        assert (pixels[top:bottom, left:right] == 255).all()
        assert (right - left) * (bottom - top) == 200


# --- YOLO

LINE = f"0 {20 / WIDTH} {10 / HEIGHT} {20 / WIDTH} {10 / HEIGHT}"
"""The same box."""


def yolo_project(folder: Path, images: str, labels: str, line: str = LINE, **names: str) -> Path:
    """Six images at a pattern such as `images/{}.jpg`, and their text files; further files by `name__suffix`."""
    draw(folder, *(images.format(number) for number in range(6)))
    for number in range(6):
        file = folder / labels.format(number)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(line + "\n")
    for name, text in names.items():
        (folder / name.replace("__", ".").replace("_in_", "/")).write_text(text)
    return folder


YOLO_LAYOUTS = {
    "next to each other": ("{}.jpg", "{}.txt"),
    "images and labels": ("images/{}.jpg", "labels/{}.txt"),
    "parts inside": ("images/train/{}.jpg", "labels/train/{}.txt"),
    "parts outside": ("train/images/{}.jpg", "train/labels/{}.txt"),
    "labels below the images": ("{}.jpg", "labels/{}.txt"),
    "capitals": ("Images/{}.JPG", "Labels/{}.txt"),
    "darknet": ("obj_train_data/{}.jpg", "obj_train_data/{}.txt"),
    "one folder deeper": ("set/images/{}.png", "set/labels/{}.txt"),
}


@pytest.mark.parametrize("layout", YOLO_LAYOUTS)
def test_yolo_text_files_are_found_where_programs_put_them(tmp_path: Path, layout: str) -> None:
    result = good(yolo_project(tmp_path / "p", *YOLO_LAYOUTS[layout], data__yaml="names: {0: Cup, 1: Dish}\nnc: 2"))
    assert result.display == ["Cup"]
    assert list(objects(result).values()) == [[("Cup", CORNERS)]] * 6


@pytest.mark.parametrize(
    "names",
    [
        {"data__yaml": "names: [Cup, Dish]"}, {"data__yaml": "names:\n  0: Cup\n  1: Dish"},
        {"classes__txt": "Cup\nDish\n"}, {"data__yaml": "names: {'0': Cup}"}, {"obj__names": "Cup\nDish"},
        {"coco128__yaml": "nc: 2\nnames: ['Cup', 'Dish']"},
        {"labels_in_classes__txt": "\ufeffCup\r\nDish\r\n"},
    ],
)  # fmt: skip
def test_names_of_classes_are_found_in_every_usual_file(tmp_path: Path, names: dict[str, str]) -> None:
    assert good(yolo_project(tmp_path / "p", "images/{}.jpg", "labels/{}.txt", **names)).display == ["Cup"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (LINE + " 0.93", "ignored as a confidence"),
        ("0.0" + LINE[1:], ""),
        (LINE.replace(".", ","), ""),
        (f"0 {10 / 60} {5 / 40} {30 / 60} {5 / 40} {30 / 60} {15 / 40} {10 / 60} {15 / 40}", ""),
        (LINE + "\n\n" + LINE, "boxes are duplicates"),
    ],
)
def test_yolo_lines_with_more_numbers_are_understood(tmp_path: Path, line: str, words: str) -> None:
    result = good(yolo_project(tmp_path / "p", "{}.png", "{}.txt", line, classes__txt="Cup"))
    assert list(objects(result).values()) == [[("Cup", CORNERS)]] * 6
    assert any(words in remark for remark in result.remarks) or not words


def test_two_yolo_classes_of_one_name_are_one_class(tmp_path: Path) -> None:
    project = yolo_project(tmp_path / "p", "images/{}.png", "labels/{}.txt", data__yaml="names: [Cup, Dish, Cup]")
    (project / "labels" / "1.txt").write_text("2" + LINE[1:])
    result = good(project)
    assert (result.display, result.numbers) == (["Cup"], [0])
    assert any("Classes 0 and 2 are both called 'Cup'" in remark for remark in result.remarks)


def test_keypoints_of_poses_are_not_taken_for_polygons(tmp_path: Path) -> None:
    line = LINE + " 0.9 0.9 2 0.1 0.1 1"
    yaml = "names: [Cup]\nkpt_shape: [2, 3]"
    result = good(yolo_project(tmp_path / "p", "images/{}.png", "labels/{}.txt", line, data__yaml=yaml))
    assert list(objects(result).values()) == [[("Cup", CORNERS)]] * 6


def test_the_split_may_be_in_the_yaml_file_or_in_lists(tmp_path: Path) -> None:
    yaml = "path: /content/set\ntrain: images/a\nval: [images/b]\nnames: [Cup]"
    project = yolo_project(tmp_path / "p", "images/a/{}.png", "labels/a/{}.txt", data__yaml=yaml)
    (project / "images" / "b").mkdir()
    (project / "images" / "a" / "5.png").rename(project / "images" / "b" / "5.png")
    assert [image.part for image in good(project).images] == ["train"] * 5 + ["validation"]
    lists = {"train__txt": "data/obj/0.png\ndata/obj/1.png", "valid__txt": "data/obj/2.png"}
    project = yolo_project(tmp_path / "q", "{}.png", "{}.txt", classes__txt="Cup", **lists)
    assert [image.part for image in good(project).images][:3] == ["train", "train", "validation"]


def test_text_files_whose_images_are_missing_are_named(tmp_path: Path) -> None:
    project = yolo_project(tmp_path / "p", "images/{}.png", "labels/{}.txt", classes__txt="Cup")
    (project / "images" / "2.png").unlink()
    assert any("an image for labels/2.txt" in remark for remark in good(project).remarks)
    for number in (3, 4):
        (project / "images" / f"{number}.png").unlink()
    assert any("an image for labels/3.txt" in problem for problem in found(project).problems)


def test_a_wrong_line_is_named_with_its_file_and_number(tmp_path: Path) -> None:
    project = yolo_project(tmp_path / "p", "images/{}.png", "labels/{}.txt", classes__txt="Cup")
    (project / "labels" / "4.txt").write_text(f"{LINE}\ncup 1 2 3\n")
    assert any("labels/4.txt, line 2" in remark for remark in good(project).remarks)


# --- Pascal VOC


def voc_file(file: Path, name: str, *, extra: str = "", corner: str = "<xmin>11</xmin><ymin>6</ymin>") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    box = f"<bndbox>{corner}<xmax>30</xmax><ymax>15</ymax></bndbox>"
    size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>"
    file.write_text(
        f"<annotation><filename>{name}</filename>{size}<object><name>Cup</name>{box}</object>{extra}</annotation>"
    )


@pytest.mark.parametrize(
    ("images", "files"),
    [("JPEGImages/{}.jpg", "Annotations/{}.xml"), ("{}.jpg", "{}.xml"), ("train/{}.jpg", "train/{}.xml")],
)
def test_pascal_voc_is_read(tmp_path: Path, images: str, files: str) -> None:
    project = tmp_path / "p"
    draw(project, *(images.format(number) for number in range(6)))
    for number in range(6):
        voc_file(project / files.format(number), f"{number}.jpg" if number else "renamed since.jpg")
    result = good(project)
    assert list(objects(result).values()) == [[("Cup", CORNERS)]] * 6


def test_corners_in_xml_may_have_a_decimal_comma(tmp_path: Path) -> None:
    for number in range(6):
        draw(tmp_path / "p", f"{number}.jpg")
        voc_file(tmp_path / "p" / f"{number}.xml", f"{number}.jpg", corner="<xmin>11,0</xmin><ymin>6,000</ymin>")
    assert list(objects(good(tmp_path / "p")).values()) == [[("Cup", CORNERS)]] * 6


def test_pascal_voc_keeps_its_split_and_leaves_difficult_objects_out(tmp_path: Path) -> None:
    project = tmp_path / "p"
    draw(project, *(f"JPEGImages/{number}.jpg" for number in range(6)))
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
    for number in range(6):
        extra = f"<object><name>Cup</name><difficult>1</difficult>{box}</object>"
        voc_file(project / "Annotations" / f"{number}.xml", f"{number}.jpg", extra=extra)
    main = project / "ImageSets" / "Main"
    main.mkdir(parents=True)
    (main / "train.txt").write_text("0\n1\n2\n3\n")
    (main / "val.txt").write_text("4 1\n5 -1\n")
    result = good(project)
    assert [image.part for image in result.images] == ["train"] * 4 + ["validation"] * 2
    assert [box.crowd for box in result.images[0].boxes] == [False, True]
    assert any("6 objects are marked difficult" in remark for remark in result.remarks)


def test_xml_files_that_are_broken_or_have_no_corners_are_named(tmp_path: Path) -> None:
    project = tmp_path / "p"
    draw(project, *(f"{number}.jpg" for number in range(12)))
    for number in range(12):
        voc_file(project / f"{number}.xml", f"{number}.jpg", corner="<xmin>11</xmin><ymin>6</ymin>" if number else "")
    (project / "1.xml").write_text("<annotation>\n<object>")
    remarks = "\n".join(good(project).remarks)
    assert "0.xml, object 1" in remarks
    assert "1.xml: no element found: line 2" in remarks


def test_images_without_an_xml_file_are_left_out_and_counted(tmp_path: Path) -> None:
    project = tmp_path / "p"
    draw(project, *(f"{number}.jpg" for number in range(8)))
    for number in range(5):
        voc_file(project / f"{number}.xml", f"{number}.jpg")
    result = good(project)
    assert len(result.images) == 5
    assert any(
        "3 of 8 images were left out because the annotations do not list them" in remark for remark in result.remarks
    )


def test_boxes_in_another_format_too_are_mentioned(tmp_path: Path) -> None:
    project = coco_project(tmp_path / "p")
    for number in range(6):
        voc_file(project / "Annotations" / f"{number}.xml", f"{number}.png")
    result = good(project)
    assert list(objects(result).values()) == [[("Cup", CORNERS)]] * 6
    assert any("Boxes in Pascal VOC, XML files were ignored in favour of" in remark for remark in result.remarks)


def test_a_bomb_of_entities_is_refused(tmp_path: Path) -> None:
    project = tmp_path / "p"
    draw(project, *(f"{number}.jpg" for number in range(6)))
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
    for number in range(6):
        (project / f"{number}.xml").write_text(
            f'<!DOCTYPE a [<!ENTITY e0 "0123456789">{entities}]><annotation><filename>&e11;</filename></annotation>'
        )
    assert found(project).problems
