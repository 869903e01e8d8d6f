"""Lists of images and labels in JSON, as people and programs write them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from layout_projects import counts, examined, good, parts, pictures
from test_examination import only

from tfserve.training.dataset.layouts import json_boxes, json_records, table_text

LABELS = {f"{number:03d}.png": ("Cat", "Big Dog")[number % 2] for number in range(8)}
EXPECTED = {"Big Dog": 4, "Cat": 4}


def _records(file: str, label: str) -> list[dict[str, Any]]:
    return [{"id": number, file: name, label: value} for number, (name, value) in enumerate(LABELS.items())]


def _by_class() -> dict[str, list[str]]:
    return {value: [name for name in LABELS if LABELS[name] == value] for value in EXPECTED}


def _coco() -> dict[str, Any]:
    numbers = {"Cat": 7, "Big Dog": 2}
    return {
        "images": [{"id": number, "file_name": name} for number, name in enumerate(LABELS)],
        "categories": [{"id": number, "name": name} for name, number in numbers.items()],
        "annotations": [
            {"id": number, "image_id": number, "category_id": numbers[name]}
            for number, name in enumerate(LABELS.values())
        ],
    }  # fmt: skip


def _label_studio() -> list[dict[str, Any]]:
    return [
        {"id": 1, "data": {"image": f"/data/local-files/?d=set/{name}"}, "created_username": "me",
         "annotations": [{"id": 3, "result": [{"type": "choices", "value": {"choices": [label]}, "id": "x"}]}]}
        for name, label in LABELS.items()
    ]  # fmt: skip


FORMS: dict[str, Callable[[], Any]] = {
    "list of objects": lambda: _records("file", "label"),
    "other names of the fields": lambda: _records("image_path", "species"),
    "list in an object": lambda: {"info": {"version": 1}, "images": _records("filename", "category")},
    "file: label": lambda: LABELS,
    "name without suffix: label": lambda: {name.partition(".")[0]: label for name, label in LABELS.items()},
    "file: list of one label": lambda: {name: [label] for name, label in LABELS.items()},
    "file: fields": lambda: {name: {"label": label, "width": 9} for name, label in LABELS.items()},
    "class: files": _by_class,
    "pairs": lambda: [list(pair) for pair in LABELS.items()],
    "pairs in an object": lambda: {"labels": [list(pair) for pair in LABELS.items()]},
    "coco": _coco,
    "label studio": _label_studio,
    "vertex ai": lambda: [
        {"imageGcsUri": f"gs://bucket/{name}", "classificationAnnotation": {"displayName": label}}
        for name, label in LABELS.items()
    ],
}


@pytest.mark.parametrize("form", FORMS)
def test_lists_of_labels_in_json_are_read(tmp_path: Path, form: str) -> None:
    pictures(tmp_path / "p" / "images", 8)
    (tmp_path / "p" / "labels.json").write_text(json.dumps(FORMS[form]()), encoding="utf-8")
    found = good(tmp_path / "p")
    assert counts(found) == EXPECTED
    assert found.layout.startswith("table labels.json (columns ")


def test_metadata_of_an_image_folder_with_a_record_per_line_keeps_its_split(tmp_path: Path) -> None:
    for part, count in (("train", 6), ("test", 2)):
        names = [path.name for path in pictures(tmp_path / "p" / part, count, first=0 if part == "train" else 6)]
        lines = [json.dumps({"file_name": name, "label": LABELS[name]}) for name in names]
        (tmp_path / "p" / part / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    found = good(tmp_path / "p")
    assert (counts(found), parts(found)) == (EXPECTED, {"test": 2, "train": 6})


def test_a_file_of_lines_may_have_a_single_record(tmp_path: Path) -> None:
    """As in the part of a split that has one image."""
    for part, count in (("train", 7), ("test", 1)):
        names = [path.name for path in pictures(tmp_path / "p" / part, count, first=0 if part == "train" else 7)]
        lines = [json.dumps({"file_name": name, "label": LABELS[name]}) for name in names]
        (tmp_path / "p" / part / "metadata.jsonl").write_text("\n".join(lines))
    assert parts(good(tmp_path / "p")) == {"test": 1, "train": 7}


def test_json_with_a_field_of_its_own_in_each_record_is_no_table(tmp_path: Path) -> None:
    """As a table it would have a cell for each record and each field."""
    path = tmp_path / "a.json"
    path.write_text(json.dumps({f"r{number}": {f"k{number}": 1} for number in range(20_000)}))
    assert table_text.rows(path) == []
    path.write_text(json.dumps([{f"k{number}": 1 for number in range(200_000)}] * 2))
    assert table_text.rows(path) == []
    path.write_text(json.dumps([{"boxes": [{"x": 1}] * 20_000} | {f"k{number}": 1 for number in range(20_000)}]))
    assert json_boxes.rows(path) == []


def test_a_list_of_labels_is_a_row_for_each() -> None:
    record = {"a": ["x", "y"], "file": "1.png", "b": ["u", "v"], "n": 3.0}
    assert json_records.table(Path("a.jsonl"), [record])[1:] == [
        ["x", "1.png", "u", "3"], ["x", "1.png", "v", "3"], ["y", "1.png", "u", "3"], ["y", "1.png", "v", "3"],
    ]  # fmt: skip


def test_two_labels_of_one_image_are_a_problem(tmp_path: Path) -> None:
    pictures(tmp_path / "p" / "images", 8)
    (tmp_path / "p" / "labels.json").write_text(json.dumps(LABELS | {"000.png": ["Cat", "Big Dog"]} | {"9.png": "Cat"}))
    found = examined(tmp_path / "p")
    only(found.problems, "exactly one label per image", "images/000.png (Cat, Big Dog)")


def test_records_without_their_image_are_named(tmp_path: Path) -> None:
    pictures(tmp_path / "p" / "images", 8)
    (tmp_path / "p" / "labels.json").write_text(
        json.dumps([*_records("file", "label"), {"file": "9.png", "label": "Cat"}])
    )
    assert [each.reason for each in good(tmp_path / "p").skipped] == ["missing: named in labels.json, entry 9"]


@pytest.mark.parametrize(
    "content",
    ["{", "[[1, 2], [3, 4]]", '{"a": ' * 500 + "1" + "}" * 500, '[{"file": "000.png"}, {"file": "001.png"}]',
     '[{"a": {}, "b": []}, {"c": [[]]}]'],
)  # fmt: skip
def test_other_json_is_ignored(tmp_path: Path, content: str) -> None:
    pictures(tmp_path / "p" / "images", 4)
    (tmp_path / "p" / "other.json").write_text(content)
    only(examined(tmp_path / "p").problems, "was not recognised")


def test_a_file_of_labelme_next_to_each_image_is_no_list_of_labels(tmp_path: Path) -> None:
    for name in ("Cat", "Dog"):
        for path in pictures(tmp_path / "p" / name, 3):
            shapes = [{"label": "nose", "points": [[1, 1], [2, 2]], "shape_type": "rectangle"}]
            path.with_suffix(".json").write_text(json.dumps({"imagePath": path.name, "shapes": shapes}))
    assert counts(good(tmp_path / "p")) == {"Cat": 3, "Dog": 3}
