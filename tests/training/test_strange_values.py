"""Annotations with values that no program writes: the check reports them or leaves them out, and never fails itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from layout_projects import examined
from PIL import Image
from test_box_formats import draw
from test_examination import only

NAMES = [f"{number}.png" for number in range(4)]
NUMBER = "@number@"
HUGE = "9" * 400
DEEP = 900
VALUES = {
    "a huge number": HUGE,
    "a number of more digits than Python reads": "9" * 5000,
    "a huge float": "1e308",
    "a number beyond all floats": "1e999",
    "infinity": "Infinity",
    "no number": "NaN",
    "half of a pair": r'"\ud83d"',
    "a NUL": r'"\u0000"',
    "digits": json.dumps("9" * 5000),
    "a digit that is none": '"²"',
    "a long text": json.dumps("x" * 5000),
    "null": "null",
    "true": "true",
    "an object": '{"a": {}}',
    "a list": '["a", 1]',
    "an empty list": "[]",
    "lists in lists": "[" * DEEP + "]" * DEEP,
    "more lists in lists": "[" * 100_000 + "]" * 100_000,
}
"""As JSON."""

_SHAPE = {"label": "Cup", "shape_type": "rectangle", "points": [[1, 1], [9, 9]]}
_REGION = {
    "shape_attributes": {"name": "rect", "x": 1, "y": 1, "width": 9, "height": 9},
    "region_attributes": {"c": "A"},
}
_ELLIPSE = {"name": "ellipse", "cx": 9, "cy": 9, "rx": 4, "ry": 3, "theta": 0.1}
DOCUMENTS: dict[str, Any] = {
    "COCO": {
        "images": [{"id": n, "file_name": name, "width": 60, "height": 40} for n, name in enumerate(NAMES)],
        "categories": [{"id": 1, "name": "Cup"}],
        "annotations": [
            {"id": 1, "image_id": 0, "category_id": 1, "bbox": [1, 1, 9, 9], "area": 81, "iscrowd": 0,
             "segmentation": [[1, 1, 9, 1, 9, 9]]},
            {"id": 2, "image_id": 1, "category_id": 1, "segmentation": {"size": [40, 60], "counts": [100, 20, 2280]}},
        ],
    },
    "labelme": {"imagePath": NAMES[0], "imageWidth": 60, "imageHeight": 40, "imageData": None, "shapes": [_SHAPE]},
    "VIA": {
        name: {"filename": name, "regions": [_REGION, {"shape_attributes": _ELLIPSE, "region_attributes": {}}]}
        for name in NAMES[:2]
    },
    "CreateML": [
        {"image": name, "annotations": [{"label": "Cup", "coordinates": {"x": 9, "y": 9, "width": 4, "height": 4}}]}
        for name in NAMES[:2]
    ],
    "records": [{"file": NAMES[0], "label": "Cup"}, {"file": NAMES[1], "label": "Dish", "split": "train"}],
    "labels by file": dict.fromkeys(NAMES, "Cup"),
    "ImageFolder": [{"file_name": name, "objects": {"bbox": [[1, 1, 9, 9]], "categories": ["Cup"]}} for name in NAMES],
}  # fmt: skip


def variants(value: Any, text: str) -> Iterator[str]:
    """The document with each of its values replaced by the text."""
    for replaced in _replaced(value):
        yield json.dumps(replaced).replace(json.dumps(NUMBER), text)


def _replaced(value: Any) -> Iterator[Any]:
    yield NUMBER
    if isinstance(value, dict):
        for name, each in value.items():
            yield from ({**value, name: other} for other in _replaced(each))
    if isinstance(value, list):
        for number, each in enumerate(value):
            yield from ([*value[:number], other, *value[number + 1 :]] for other in _replaced(each))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["classification", "segmentation", "detection"])
@pytest.mark.parametrize("document", DOCUMENTS)
@pytest.mark.parametrize("value", VALUES)
def test_strange_values_in_json_are_reported_or_left_out(tmp_path: Path, kind: str, document: str, value: str) -> None:
    draw(tmp_path / "p", *NAMES)
    for text in variants(DOCUMENTS[document], VALUES[value]):
        (tmp_path / "p" / "0.json").write_text(text)
        assert msgspec.json.encode(examined(tmp_path / "p", kind)), text[:1000]


# --- tables, YAML and text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("data.yaml", "names: !!bool x"), ("data.yaml", "names: !!int ''"), ("data.yaml", "names: !!timestamp x"),
        ("data.yaml", "names: {.inf: a}"), ("data.yaml", 'names: ["\\ud83d"]'), ("data.yaml", "names: [!!binary aGk=]"),
        ("data.yaml", f"names: [a]\ntrain: {'x' * 5000}"), ("data.yaml", 'names: [a]\ntrain: "\\0"'),
        ("0.txt", "1e300 0.5 0.5 0.1 0.1"), ("0.txt", f"{HUGE} 0.5 0.5 0.1 0.1"), ("0.txt", "1e300 0 0 0 1 1 1"),
        ("labels.csv", f"file,label\n0.png,{HUGE * 20}\n1.png,1"), ("labels.csv", f"file,label\n0.png,{'x' * 200_000}"),
        ("_classes.csv", "²,Cup"), ("_classes.csv", f"{HUGE * 20},Cup"), ("_classes.csv", f"1,{'x' * 200_000}"),
        ("class_dict.csv", "Cup,²,1,1"), ("labels_info.txt", f"label,number\n{' ' * 200_000}x"),
        ("0.xml", "<?xml version='1.0' encoding='hex'?><annotation/>"), ("0.xml", "<annotation>" * 100_000),
        ("0.xml", "<?xml version='1.0' encoding='none'?><annotation/>"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["classification", "segmentation", "detection"])
def test_strange_values_in_other_files_are_reported_or_left_out(
    tmp_path: Path, kind: str, name: str, text: str
) -> None:
    draw(tmp_path / "p", *NAMES)
    (tmp_path / "p" / "classes.txt").write_text("Cup\nDish\n")
    for image in NAMES:
        (tmp_path / "p" / "masks").mkdir(exist_ok=True)
        Image.new("L", (60, 40), 1).save(tmp_path / "p" / "masks" / image)
    (tmp_path / "p" / name).write_text(text)
    assert msgspec.json.encode(examined(tmp_path / "p", kind))


def test_names_in_yaml_that_repeat_each_other_are_no_names(tmp_path: Path) -> None:
    lists = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    draw(tmp_path / "p", *NAMES)
    (tmp_path / "p" / "0.txt").write_text("0 0.5 0.5 0.1 0.1")
    (tmp_path / "p" / "data.yaml").write_text("\n".join(["a0: &a0 [x]", *lists, "names: *a8"]))
    only(examined(tmp_path / "p", "detection").problems, "data.yaml has no class names")
