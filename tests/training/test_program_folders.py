"""Folders of programs next to a data set, and tables as people leave them. No TensorFlow is needed."""

from __future__ import annotations

from pathlib import Path

import pytest
from layout_projects import class_folders, counts, good, parts, pictures
from test_box_formats import CORNERS, draw, objects
from test_box_formats import good as good_boxes
from test_examination import only

THREE = {"cat": 3, "cow": 3, "dog": 3}


@pytest.mark.parametrize("base", ["", "images", "archive", "archive/images"])
@pytest.mark.parametrize("name", ["runs", "Output", "thumbs", ".ipynb_checkpoints", "__MACOSX", "predictions"])
def test_folders_of_programs_are_no_classes(tmp_path: Path, base: str, name: str) -> None:
    project = tmp_path / "p"
    class_folders(project / base, THREE)
    pictures(project / base / name / "detect", 2)
    found = good(project)
    assert counts(found) == THREE
    if not name.startswith((".", "_")):
        only(found.remarks, "programs write folders with such names", f"{name}/", "rename it")


def test_a_folder_with_such_a_name_is_a_class_unless_there_are_enough_others(tmp_path: Path) -> None:
    assert counts(good(class_folders(tmp_path / "p", ["thumbs", "fingers"]))) == {"fingers": 3, "thumbs": 3}
    assert counts(good(class_folders(tmp_path / "q" / "output", THREE).parent)) == THREE


@pytest.mark.parametrize(("inside", "is_class"), [("notes/a.txt", True), ("0f31/metrics.json", False)])
def test_a_folder_called_models_is_a_class_unless_it_has_results(tmp_path: Path, inside: str, is_class: bool) -> None:
    base = class_folders(tmp_path / "p" / "archive", [*THREE, "models"])
    pictures(base / "trash", 3)
    path = base / "models" / inside
    path.parent.mkdir()
    path.write_text("{}")
    expected = THREE | {"trash": 3} | ({"models": 3} if is_class else {})
    assert counts(good(tmp_path / "p")) == expected


def test_predictions_of_earlier_runs_are_no_boxes(tmp_path: Path) -> None:
    project = tmp_path / "p"
    names = [f"{number:03}.jpg" for number in range(12)]
    draw(project / "images", *names)
    draw(project / "runs" / "detect" / "predict", *names)
    for folder, line in (("labels", "0 0.5 0.5 0.4 0.4"), ("runs/detect/predict/labels", "1 0.1 0.1 0.1 0.1")):
        (project / folder).mkdir(parents=True)
        for name in names:
            (project / folder / name).with_suffix(".txt").write_text(line)
    (project / "classes.txt").write_text("cup\ndish\n")
    found = good_boxes(project)
    assert sorted(objects(found)) == [f"images/{name}" for name in names]
    only(found.remarks, "runs/")


def test_rows_without_a_part_do_not_choose_the_model(tmp_path: Path) -> None:
    project = tmp_path / "p"
    paths = pictures(project / "photos", 12)
    split = ["train"] * 6 + ["val"] * 3 + [""] * 3
    lines = [f"{path.name},{'cat' if n % 2 else 'dog'},{split[n]}" for n, path in enumerate(paths)]
    (project / "labels.csv").write_text("\n".join(["file,label,split", *lines]))
    found = good(project)
    assert parts(found) == {"train": 6, "validation": 3}
    only(found.remarks, "3 of 12 images were left out because they are not listed with a part in labels.csv")


def test_numbers_that_lost_their_zeros_are_found_in_tables_of_boxes(tmp_path: Path) -> None:
    project = tmp_path / "p"
    draw(project / "images", *(f"{number:04}.jpg" for number in range(12)))
    lines = [f"{number},10,5,30,15,Cup" for number in range(12)]
    (project / "boxes.csv").write_text("\n".join(["image_id,xmin,ymin,xmax,ymax,class", *lines]))
    found = objects(good_boxes(project))
    assert len(found) == 12
    assert all(boxes == [("Cup", CORNERS)] for boxes in found.values())


ROWS = [f"{number:03}.png,{'cat' if number % 2 else 'dog'}" for number in range(12)]


@pytest.mark.parametrize(
    "lines",
    [
        ["file,label", *(f"{row},note, and more" if n % 2 else row for n, row in enumerate(ROWS))],
        ["file,label", *ROWS[:4], ROWS[4].replace(",", ',"'), *ROWS[5:]],
        ["file,label,note", *(f'{row},"one\ntwo, three"' for row in ROWS)],
        [f"UNASSIGNED,gs://cups/all/{row}" for row in ROWS],
    ],
    ids=["more cells in half of the rows", "a quote that is never closed", "line breaks in cells", "AutoML"],
)
def test_ragged_tables_are_read(tmp_path: Path, lines: list[str]) -> None:
    pictures(tmp_path / "p" / "photos", 12)
    (tmp_path / "p" / "labels.csv").write_text("\n".join(lines))
    assert counts(good(tmp_path / "p")) == {"cat": 6, "dog": 6}


def test_names_that_differ_only_in_capitals_are_mentioned(tmp_path: Path) -> None:
    found = good(class_folders(tmp_path / "p", ["Big_Cup", "big cup", "a", "A"]))
    assert len(found.labels) == 4
    only(found.remarks, "'Big_Cup' and 'big cup' are learnt as different classes")
    assert not [remark for remark in found.remarks if "'A' and 'a'" in remark]
