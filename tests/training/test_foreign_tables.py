"""Tables, lists and folders as other programs write them. No TensorFlow is needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layout_projects import class_folders, counts, examined, good, parts, pictures
from PIL import Image
from test_box_formats import HEIGHT, WIDTH, draw, objects
from test_box_formats import good as good_boxes
from test_examination import only

# --- tables


def table(project: Path, header: str, labels: list[str]) -> Path:
    rows = [f"{path.name},{label}" for path, label in zip(pictures(project / "f", len(labels)), labels, strict=True)]
    (project / "labels.csv").write_text("\n".join([header, *rows]))
    return project


def test_numbers_that_lost_their_zeros_in_a_spreadsheet_are_found(tmp_path: Path) -> None:
    pictures(tmp_path / "p" / "train", 12)
    (tmp_path / "p" / "train.csv").write_text("id,label\n" + "".join(f"{n},{'ab'[n % 2]}\n" for n in range(12)))
    found = good(tmp_path / "p")
    assert {image.path: found.display[image.label] for image in found.images}["train/007.png"] == "b"


def test_numbers_of_which_only_some_lost_zeros_are_found(tmp_path: Path) -> None:
    pictures(tmp_path / "p" / "train", 12, first=92)
    (tmp_path / "p" / "train.csv").write_text("id,label\n" + "".join(f"{n},{'ab'[n % 2]}\n" for n in range(92, 104)))
    found = good(tmp_path / "p")
    names = {image.path: found.display[image.label] for image in found.images}
    assert (len(names), names["train/093.png"], names["train/103.png"]) == (12, "b", "b")


def test_a_column_of_measurements_is_not_taken_for_labels(tmp_path: Path) -> None:
    ages = table(tmp_path / "p", "file,age", [str(20 + n % 25) for n in range(60)])
    only(examined(ages).problems, "which of its columns (age) has the label")
    stars = table(tmp_path / "q", "file,stars", [str(n % 5) for n in range(15)])
    assert len(counts(good(stars))) == 5


def test_combinations_of_labels_are_mentioned(tmp_path: Path) -> None:
    labels = ["cat", "dog", '"cat,dog"', "New York"] * 3
    remark = only(good(table(tmp_path / "p", "file,tags", labels)).remarks, "combinations of others")
    assert remark.endswith(": cat,dog.")


def test_several_labels_in_many_rows_are_one_problem(tmp_path: Path) -> None:
    project = table(tmp_path / "p", "file,cat,dog", ["1,1", "1,0", "0,1"] * 20)
    only(examined(project).problems, "These rows have several", "000.png has 2 labels (cat, dog)", "and 10 more")


def test_a_table_in_utf_16_without_a_mark_is_read(tmp_path: Path) -> None:
    project = table(tmp_path / "p", "file,label", ["Tür", "Tor"] * 4)
    for encoding in ("utf-16-le", "utf-16-be"):
        text = "\n".join(["file,label", *(f"{n:03d}.png,{('Tür', 'Tor')[n % 2]}" for n in range(8))])
        (project / "labels.csv").write_bytes(text.encode(encoding))
        assert counts(good(project)) == {"Tor": 4, "Tür": 4}


# --- folders and lists


def test_lists_of_images_are_the_split_of_class_folders(tmp_path: Path) -> None:
    class_folders(tmp_path / "p" / "images", ("apple pie", "waffles"), 4)
    for name, numbers in (("train", (0, 1, 2)), ("test", (3,))):
        lines = [f"{label}/{number:03d}" for label in ("apple pie", "waffles") for number in numbers]
        (tmp_path / "p" / f"{name}.txt").write_text("\n".join(lines))
    found = good(tmp_path / "p")
    assert (parts(found), counts(found)) == ({"test": 2, "train": 6}, {"apple pie": 4, "waffles": 4})
    assert found.layout == "images/<class>/<image>, with the split in test.txt, train.txt"


@pytest.mark.parametrize("has_groups", [False, True])
def test_images_that_no_list_names_do_not_choose_the_model(tmp_path: Path, has_groups: bool) -> None:
    class_folders(tmp_path / "p", ("a", "b"), 6)
    if has_groups:
        rows = [f"{label}/{number:03d}.png,{label}{number // 2}" for label in "ab" for number in range(6)]
        (tmp_path / "p" / "patients.csv").write_text("\n".join(["file,patient", *rows]))
    for name, numbers in (("train", (0, 1, 2)), ("test", (3,))):
        lines = [f"{label}/{number:03d}.png" for label in "ab" for number in numbers]
        (tmp_path / "p" / f"{name}.txt").write_text("\n".join(lines))
    found = good(tmp_path / "p")
    assert parts(found) == {"test": 2, "train": 6}
    only(found.remarks, "4 of 12 images were left out because they are not listed with a part in test.txt, train.txt.")
    assert {each.path for each in found.skipped if each.reason == "not listed with a part in test.txt, train.txt"} == {
        "a/004.png", "a/005.png", "b/004.png", "b/005.png"
    }  # fmt: skip


def test_a_table_of_groups_keeps_the_split_of_the_lists(tmp_path: Path) -> None:
    class_folders(tmp_path / "p", ("a", "b"), 4)
    for name, numbers in (("train", (0, 1, 2)), ("test", (3,))):
        lines = [f"{label}/{number:03d}.png" for label in "ab" for number in numbers]
        (tmp_path / "p" / f"{name}.txt").write_text("\n".join(lines))
    rows = [f"{label}/{number:03d}.png,{label}{number // 2}" for label in "ab" for number in range(4)]
    (tmp_path / "p" / "patients.csv").write_text("\n".join(["file,patient", *rows]))
    found = good(tmp_path / "p")
    assert parts(found) == {"test": 2, "train": 6}
    assert {image.path: image.group for image in found.images}["b/003.png"] == "b1"


def test_a_folder_that_has_everything_again_is_left_out(tmp_path: Path) -> None:
    class_folders(tmp_path / "p", ("rose", "tulip", "flowers/rose", "flowers/tulip"))
    found = good(tmp_path / "p")
    assert counts(found) == {"rose": 3, "tulip": 3}
    only(found.remarks, "flowers/ has folders for the same classes again")


def test_a_single_folder_is_named(tmp_path: Path) -> None:
    class_folders(tmp_path / "p", ("cat",))
    only(examined(tmp_path / "p").problems, "Only one folder has images (cat/)", "at least two classes")


def test_classes_in_a_format_that_is_not_read_say_what_to_do(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "p" / "images" / name).mkdir(parents=True)
        (tmp_path / "p" / "images" / name / "a.ppm").write_bytes(b"P6 1 1 255\n123")
    problems = examined(tmp_path / "p").problems
    only(problems, "no usable image (1 other files, such as images/cat/a.ppm)")
    only(problems, "2 files (images/cat/a.ppm, …) are in a format that is not read: convert them to PNG, JPEG or TIFF.")


# --- Label Studio


def label_studio(project: Path, **value: Any) -> list[dict[str, Any]]:
    """Six images with a box each, as the program exports them."""
    draw(project / "images", *(f"{number}.png" for number in range(6)))
    box = {"x": 25.0, "y": 12.5, "width": 50.0, "height": 25.0, "rotation": 0, "rectanglelabels": ["Cup"]} | value
    size = {"original_width": WIDTH, "original_height": HEIGHT}
    return [
        {
            "id": number,
            "data": {"image": f"/data/upload/3/0a1b2c3d-{number}.png"},
            "annotations": [{"result": [{"from_name": "label", "type": "rectanglelabels", "value": box, **size}]}],
        }
        for number in range(6)
    ]


@pytest.mark.parametrize("form", ["JSON", "JSON-MIN"])
def test_boxes_of_label_studio_are_per_cent_of_the_image(tmp_path: Path, form: str) -> None:
    tasks = label_studio(tmp_path / "p")
    if form == "JSON-MIN":
        tasks = [
            {"image": task["data"]["image"], "label": [task["annotations"][0]["result"][0]["value"]]} for task in tasks
        ]
    (tmp_path / "p" / "export.json").write_text(json.dumps(tasks))
    assert objects(good_boxes(tmp_path / "p"))["images/0.png"] == [("Cup", (15.0, 5.0, 45.0, 15.0))]


def test_rotated_boxes_and_outlines_of_label_studio_get_the_box_around_them(tmp_path: Path) -> None:
    """A quarter turn about the upper left corner, at (40, 10) pixels, of a box of 15x10 pixels."""
    tasks = label_studio(tmp_path / "p", x=40 / 0.6, y=10 / 0.4, width=15 / 0.6, height=10 / 0.4, rotation=90)
    outline = {"points": [[25, 25], [50, 25], [50, 75]], "polygonlabels": ["Plate"]}
    tasks[1]["annotations"][0]["result"][0]["value"] = outline
    tasks[2]["annotations"] = [{"result": []}]
    (tmp_path / "p" / "export.json").write_text(json.dumps(tasks))
    found = objects(good_boxes(tmp_path / "p"))
    assert found["images/0.png"] == [("Cup", (30.0, 10.0, 40.0, 25.0))]
    assert found["images/1.png"] == [("Plate", (15.0, 10.0, 30.0, 30.0))]
    assert found["images/2.png"] == []


# --- masks


def masks_of(project: Path, mask: Image.Image) -> Path:
    (project / "masks").mkdir(parents=True)
    for path in pictures(project / "images", 6):
        mask.save(project / "masks" / path.name)
    return project


def test_masks_whose_shape_is_only_transparent_are_refused(tmp_path: Path) -> None:
    pixels = np.full((16, 16, 4), 255, np.uint8)
    pixels[4:9, 4:9, 3] = 0
    found = examined(masks_of(tmp_path / "p", Image.fromarray(pixels)), "segmentation")
    only(found.problems, "only its transparency shows a shape")


def test_masks_that_are_the_same_everywhere_are_refused(tmp_path: Path) -> None:
    found = examined(masks_of(tmp_path / "p", Image.new("L", (16, 16), 7)), "segmentation")
    only(found.problems, "have the value 7 everywhere")


@pytest.mark.parametrize(
    "value",
    [
        {"x": None}, {"width": "wide"}, {"rotation": "left"}, {"rotation": 1e308}, {"rectanglelabels": [1]},
        {"points": [{"x": 1}]}, {"points": [[1], [2], [3]]}, {"x": 10**299},
    ],
)  # fmt: skip
def test_strange_values_of_label_studio_are_reported_and_never_a_crash(tmp_path: Path, value: dict[str, Any]) -> None:
    tasks = label_studio(tmp_path / "p", **value)
    tasks[0]["annotations"][0]["result"] = 7
    (tmp_path / "p" / "export.json").write_text(json.dumps(tasks))
    found = examined(tmp_path / "p", "detection")
    assert found.problems or all(0 <= box.left < box.right <= WIDTH for image in found.images for box in image.boxes)


@pytest.mark.parametrize(
    ("lines", "row"),
    [
        ("sep=;\r\nfile;label;\r\n", "{name};{label};"),
        ("'file','label'\n", "'{name}','{label}'"),
        ("url,label\n", "https://example.org/photos/{name}?w=3,{label}"),
        ("My photographs,\n,\nfile,label\n", "{name},{label}"),
        ("file,label\n", "{name},{label},"),
        ("| file | label |\n|---|---|\n", "| {name} | {label} |"),
    ],
)
def test_tables_with_habits_of_programs_are_read(tmp_path: Path, lines: str, row: str) -> None:
    paths = pictures(tmp_path / "p" / "f", 8)
    rows = [row.format(name=path.name, label=("Cat", "Dog")[n % 2]) for n, path in enumerate(paths)]
    (tmp_path / "p" / "labels.csv").write_text(lines + "\n".join(rows), newline="")
    assert counts(good(tmp_path / "p")) == {"Cat": 4, "Dog": 4}


def test_lines_are_counted_from_the_top_of_the_file(tmp_path: Path) -> None:
    paths = pictures(tmp_path / "p", 8)
    rows = [f"{path.name};{'ab'[n % 2]}" for n, path in enumerate(paths)] + ["gone.png;a"]
    (tmp_path / "p" / "labels.csv").write_text("\n".join(["sep=;", "file;label", *rows]))
    reasons = {each.path: each.reason for each in good(tmp_path / "p").skipped}
    assert reasons["gone.png"] == "missing: named in labels.csv, line 11"


def test_a_first_row_without_a_label_is_not_a_title(tmp_path: Path) -> None:
    paths = pictures(tmp_path / "p", 8)
    rows = [f"{path.name},{'ab'[n % 2] if n else ''}" for n, path in enumerate(paths)]
    (tmp_path / "p" / "labels.csv").write_text("\n".join(rows))
    assert {each.path: each.reason for each in good(tmp_path / "p").skipped} == {
        "000.png": "no label: labels.csv, line 1 has none"
    }


def test_a_table_of_boxes_for_excel_is_read(tmp_path: Path) -> None:
    draw(tmp_path / "p", *(f"{number}.png" for number in range(6)))
    rows = [f"{number}.png;10;5;30;15;Cup" for number in range(6)]
    (tmp_path / "p" / "boxes.csv").write_text("\n".join(["sep=;", "filename;xmin;ymin;xmax;ymax;class", *rows]))
    assert objects(good_boxes(tmp_path / "p"))["0.png"] == [("Cup", (10.0, 5.0, 30.0, 15.0))]
