"""Folders of programs next to a data set, and tables as people leave them. No TensorFlow is needed."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from layout_projects import class_folders, counts, examined, good, parts, pictures
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


@pytest.mark.parametrize("base", ["", "images", "train"])
@pytest.mark.parametrize("name", ["thumbs", "runs", "Output", "logs", "cache"])
def test_a_class_with_such_a_name_is_learnt_unless_a_program_wrote_the_folder(
    tmp_path: Path, base: str, name: str
) -> None:
    project = tmp_path / "p"
    class_folders(project / base, ["fist", name, "palm"])
    if base == "train":
        class_folders(project / "val", ["fist", name, "palm"])
    found = good(project)
    assert counts(found) == dict.fromkeys(["fist", name, "palm"], 6 if base == "train" else 3)
    only(found.remarks, "nothing in them shows that a program wrote them", f"{name}/")


@pytest.mark.parametrize("mark", ["args.yaml", "events.out.tfevents.1.host", "train2/weights/best.pt"])
def test_files_of_programs_show_that_a_folder_is_no_class(tmp_path: Path, mark: str) -> None:
    class_folders(tmp_path / "p", [*THREE, "runs"])
    (tmp_path / "p" / "runs" / mark).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "p" / "runs" / mark).touch()
    assert counts(good(tmp_path / "p")) == THREE


def test_thumbnails_of_several_classes_are_no_class(tmp_path: Path) -> None:
    base = tmp_path / "p" / "images"
    for n, name in enumerate(THREE):
        pictures(base / name, 3, first=10 * n)
        pictures(base / "thumbs", 3, first=10 * n)
    assert counts(good(tmp_path / "p")) == THREE


@pytest.mark.parametrize("flat", ["photos", "images"])
@pytest.mark.parametrize("inside", ["", "train"])
def test_a_data_set_next_to_the_images_that_it_was_made_of_is_read(tmp_path: Path, flat: str, inside: str) -> None:
    project = tmp_path / "p"
    pictures(project / flat, 8)
    class_folders(project / "output" / inside, ["cat", "dog"])
    if inside:
        class_folders(project / "output" / "val", ["cat", "dog"])
    assert counts(good(project)) == dict.fromkeys(["cat", "dog"], 6 if inside else 3)


def test_a_refusal_names_the_folders_that_were_left_out(tmp_path: Path) -> None:
    pictures(tmp_path / "p" / "photos", 8)
    pictures(tmp_path / "p" / "thumbs", 8)
    only(examined(tmp_path / "p").problems, "was not recognised", "Left out because of their names: thumbs/")


def test_a_folder_for_images_without_labels_or_for_results_is_left_out_with_a_remark(tmp_path: Path) -> None:
    found = good(class_folders(tmp_path / "p", [*THREE, "unlabelled", "models"]))
    assert counts(found) == THREE
    only(found.remarks, "unlabelled/", "rename it")
    only(found.remarks, "models/ was left out because results are written")


def test_classes_at_the_top_of_an_archive_are_not_lost(tmp_path: Path) -> None:
    base, project = class_folders(tmp_path / "wood", ["logs", "planks", "twigs"]), tmp_path / "p"
    project.mkdir()
    with zipfile.ZipFile(project / "wood.zip", "w") as archive:
        for path in base.rglob("*.png"):
            archive.write(path, path.relative_to(base))
    assert counts(good(project)) == {"logs": 3, "planks": 3, "twigs": 3}


@pytest.mark.parametrize("named", ["runs/{name}", "images/runs/{name}"])
def test_folders_that_annotations_name_are_read(tmp_path: Path, named: str) -> None:
    names = [f"{number:03}.png" for number in range(6)]
    base = tmp_path / "p" / Path(named).parent.parent
    draw(base / "runs", *names)
    draw(base / "train", *(f"t{name}" for name in names))
    lines = [f"{named.format(name=name)},10,5,30,15,Cup" for name in names]
    (tmp_path / "p" / "boxes.csv").write_text("\n".join(["image,xmin,ymin,xmax,ymax,class", *lines]))
    assert len(objects(good_boxes(tmp_path / "p"))) == 6


def test_scenes_with_such_names_are_read(tmp_path: Path) -> None:
    for folder in ("runs", "dives", "jumps"):
        yolo(tmp_path / "p" / "images" / folder, tmp_path / "p" / "labels" / folder, folder)
    (tmp_path / "p" / "classes.txt").write_text("cup\ndish\n")
    assert len(objects(good_boxes(tmp_path / "p"))) == 36


@pytest.mark.parametrize(("images", "labels"), [("", ""), ("cups/images", "cups/labels")])
@pytest.mark.parametrize("written", ["runs/detect/predict", "predictions"])
def test_predictions_next_to_images_anywhere_are_no_boxes(
    tmp_path: Path, images: str, labels: str, written: str
) -> None:
    project = tmp_path / "p"
    yolo(project / images, project / labels)
    yolo(project / written, project / written / "labels", "p")
    (project / "classes.txt").write_text("cup\ndish\n")
    found = good_boxes(project)
    assert len(objects(found)) == 12
    only(found.remarks, written.partition("/")[0])


def yolo(images: Path, labels: Path, prefix: str = "") -> None:
    """Twelve images with a box each."""
    names = [f"{prefix}{number:03}.png" for number in range(12)]
    draw(images, *names)
    labels.mkdir(parents=True, exist_ok=True)
    for name in names:
        (labels / name).with_suffix(".txt").write_text("0 0.5 0.5 0.4 0.4")


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
