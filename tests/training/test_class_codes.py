"""Names of classes that a table gives as numbers or other codes. No TensorFlow is needed."""

from __future__ import annotations

from pathlib import Path

import pytest
from layout_projects import counts, examined, good, pictures
from test_box_formats import draw, objects
from test_box_formats import good as good_boxes
from test_examination import only


def table(project: Path, *labels: str) -> Path:
    paths = pictures(project / "photos", 3 * len(labels))
    rows = [f"{path.name},{labels[n % len(labels)]}" for n, path in enumerate(paths)]
    (project / "train.csv").write_text("\n".join(["file,label", *rows]))
    return project


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("classes.csv", "id,name\n0,Kleine Katze\n1,Dog\n2,Bird\n"),
        ("classes.csv", "name,id\nKleine Katze,0\nDog,1\n"),
        ("labels.txt", "0: Kleine Katze\n1: Dog\n"),
        ("label_names.tsv", "0\tKleine Katze\n1\tDog\n"),
        ("class_to_idx.json", '{"Kleine Katze": 0, "Dog": 1}'),
        ("class_index.json", '{"0": ["n02123045", "Kleine Katze"], "1": ["n02084071", "Dog"]}'),
    ],
)
def test_a_file_of_pairs_names_class_numbers(tmp_path: Path, name: str, content: str) -> None:
    project = table(tmp_path / "p", "0", "1")
    (project / name).write_text(content)
    found = good(project)
    assert counts(found) == {"Dog": 3, "Kleine Katze": 3}
    only(found.remarks, f"Class names come from {name}")


def test_wordnet_ids_are_named(tmp_path: Path) -> None:
    project = table(tmp_path / "p", "n01440764", "n01443537")
    (project / "synset_words.txt").write_text("n01440764 tench, Tinca tinca\nn01443537 goldfish\nn01484850 shark\n")
    assert counts(good(project)) == {"goldfish": 3, "tench, Tinca tinca": 3}


@pytest.mark.parametrize(
    ("name", "content"),
    [("users.csv", "id,name\n0,Ann\n1,Bob\n"), ("classes.csv", "0,Cat\n2,Dog\n"), ("classes.csv", "0,5\n1,6\n")],
)
def test_other_files_give_no_names(tmp_path: Path, name: str, content: str) -> None:
    project = table(tmp_path / "p", "0", "1")
    (project / name).write_text(content)
    assert counts(good(project)) == {"0": 3, "1": 3}


def test_numbers_that_pandas_wrote_as_floats_are_whole(tmp_path: Path) -> None:
    assert counts(good(table(tmp_path / "p", "0.0", "1.0", "2"))) == {"0": 3, "1": 3, "2": 3}


def test_empty_cells_as_programs_write_them_are_no_class(tmp_path: Path) -> None:
    found = examined(table(tmp_path / "p", "a", "b", "c", "d", "e", "NaN"))
    assert counts(found) == dict.fromkeys("abcde", 3)
    assert sum("no label" in each.reason for each in found.skipped) == 3


def test_the_codes_of_open_images_are_named(tmp_path: Path) -> None:
    draw(tmp_path / "p" / "images", *(f"{number}.jpg" for number in range(6)))
    header = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded"
    rows = [f"{number},xclick,/m/01yrx,1,0.25,0.5,0.25,0.75,0" for number in range(6)]
    (tmp_path / "p" / "boxes.csv").write_text("\n".join([header, *rows]))
    (tmp_path / "p" / "class-descriptions-boxable.csv").write_text("/m/01yrx,Cat\n/m/0bt9lr,Dog\n")
    assert objects(good_boxes(tmp_path / "p"))["images/0.jpg"] == [("Cat", (15.0, 10.0, 30.0, 30.0))]


def test_classes_of_boxes_are_not_merged_by_their_groups(tmp_path: Path) -> None:
    draw(tmp_path / "p" / "images", *(f"{number}.jpg" for number in range(6)))
    rows = [f"{number}.jpg,10,5,30,15,{number % 2}" for number in range(6)]
    (tmp_path / "p" / "boxes.csv").write_text("\n".join(["filename,xmin,ymin,xmax,ymax,class", *rows]))
    (tmp_path / "p" / "class_groups.csv").write_text("0,animal\n1,animal\n")
    assert good_boxes(tmp_path / "p").display == ["0", "1"]
    (tmp_path / "p" / "classes.csv").write_text("class_id,name,group\n0,cat,animal\n1,dog,animal\n")
    assert good_boxes(tmp_path / "p").display == ["cat", "dog"]


def test_class_numbers_that_begin_at_one_are_named_from_the_first_line(tmp_path: Path) -> None:
    project = table(tmp_path / "p", "1", "2", "3")
    (project / "classes.txt").write_text("cat\ndog\nbird\n")
    found = good(project)
    assert {image.path: found.display[image.label] for image in found.images}["photos/000.png"] == "cat"
    only(found.remarks, "line n, counted from 1, is class n")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("classes.csv", "class_id,name,group\n0,cat,animal\n1,dog,animal\n"),
        ("classes.csv", "group;class_id;name\nanimal;0;cat\nanimal;1;dog\n"),
        ("classes.csv", "0,animal,cat\n1,animal,dog\n"),
        ("classes.txt", "0\tcat\tanimal\n1\tdog\tanimal\n"),
        ("classes.txt", "class_id,name,group\n0,cat,animal\n1,dog,animal\n"),
        ("class_dict.csv", "id,r,g,b,colour,label\n0,9,8,7,#ff0000,cat\n1,7,8,9,#00ff00,dog\n"),
        ("classes.csv", "parent_id,id,category,title\n,0,1,cat\n0,1,0,dog\n"),
    ],
)
def test_of_several_columns_the_one_with_names_is_used(tmp_path: Path, name: str, content: str) -> None:
    project = table(tmp_path / "p", "0", "1")
    (project / name).write_text(content)
    found = good(project)
    assert {image.path: found.display[image.label] for image in found.images}["photos/000.png"] == "cat"
    assert counts(found) == {"cat": 3, "dog": 3}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("class_groups.csv", "0,animal\n1,animal\n"),
        ("class_groups.csv", "0,animal,3\n1,animal,4\n"),
        ("class_weights.csv", "0,0.3\n1,0.7\n"),
        ("class_weights.csv", "0,1e-3\n1,70 %\n"),
        ("class_colours.txt", "0 255 0 0\n1 0 0 255\n"),
        ("classes.txt", "animal\nanimal\n"),
    ],
)
def test_no_file_merges_classes_or_names_them_by_measurements(tmp_path: Path, name: str, content: str) -> None:
    project = table(tmp_path / "p", "0", "1")
    (project / name).write_text(content)
    assert counts(good(project)) == {"0": 3, "1": 3}


@pytest.mark.parametrize(
    ("labels", "lines", "names"),
    [
        ("012", "1 euro,2 euro,5 cent", ["1 euro", "2 euro", "5 cent"]),
        ("12", "1 euro,2 euro", ["1 euro", "2 euro"]),
        ("12", "1 euro,2 euro,5 cent", ["1", "2"]),
        ("012", "2 cat,1 dog,0 bird", ["bird", "dog", "cat"]),
        ("01", "0 cat,1 dog,3 bird", ["cat", "dog"]),
    ],
)
def test_names_that_begin_with_a_number_are_pairs_only_for_all_classes(
    tmp_path: Path, labels: str, lines: str, names: list[str]
) -> None:
    project = table(tmp_path / "p", *labels)
    (project / "classes.txt").write_text(lines.replace(",", "\n"))
    found = good(project)
    by_path = {image.path: found.display[image.label] for image in found.images}
    assert [by_path[f"photos/{number:03d}.png"] for number in range(len(labels))] == names


@pytest.mark.parametrize("name", ["null", "nan", "n/a", "none", "NULL"])
def test_a_class_may_have_the_name_of_nothing(tmp_path: Path, name: str) -> None:
    assert counts(good(table(tmp_path / "p", "one", name))) == {"one": 3, name: 3}


@pytest.mark.parametrize(("rows", "word"), [(30, "null"), (8, "n/a")])
def test_rare_words_for_nothing_are_empty_cells_and_named(tmp_path: Path, rows: int, word: str) -> None:
    project = table(tmp_path / "p", *"ab" * (rows // 6 + 1))
    lines = (project / "train.csv").read_text().split("\n")[: rows + 1]
    (project / "train.csv").write_text("\n".join([*lines[:-1], lines[-1].rpartition(",")[0] + f",{word}"]))
    found = examined(project)
    assert found.display == ["a", "b"]
    only([each.reason for each in found.skipped], f"no label: train.csv, line {rows + 1} has '{word}'")
