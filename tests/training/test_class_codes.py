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


def test_class_numbers_that_begin_at_one_are_named_from_the_first_line(tmp_path: Path) -> None:
    project = table(tmp_path / "p", "1", "2", "3")
    (project / "classes.txt").write_text("cat\ndog\nbird\n")
    found = good(project)
    assert {image.path: found.display[image.label] for image in found.images}["photos/000.png"] == "cat"
    only(found.remarks, "line n, counted from 1, is class n")
