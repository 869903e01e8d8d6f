"""The `data.yaml` of YOLO projects: aliases, merges and sizes. No TensorFlow is needed."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from test_box_formats import draw, found, good
from test_examination import only

from tfserve.training.dataset import yaml_reading
from tfserve.training.dataset.yaml_reading import NotYaml


def yolo(project: Path, content: str) -> Path:
    draw(project / "images", *(f"{number}.png" for number in range(6)))
    (project / "labels").mkdir()
    for number in range(6):
        (project / "labels" / f"{number}.txt").write_text("1 0.5 0.5 0.25 0.25\n")
    (project / "data.yaml").write_text(content)
    return project


MERGES = """
base: &base {0: Cup, 1: Dish}
more: &more {1: Plate, 2: Fork}
names:
  <<: %s
  3: Knife
"""


@pytest.mark.parametrize(
    ("merged", "name"), [("*base", "Dish"), ("[*base, *more]", "Dish"), ("[*more, *base]", "Plate")]
)
def test_merges_follow_the_rules_of_yaml(tmp_path: Path, merged: str, name: str) -> None:
    assert good(yolo(tmp_path / "p", MERGES % merged)).display == [name]


def test_aliases_are_followed(tmp_path: Path) -> None:
    assert good(yolo(tmp_path / "p", "x: &x [Cup, Dish]\nnames: *x\n")).display == ["Dish"]


def test_merges_of_merges_are_refused_quickly(tmp_path: Path) -> None:
    lines = ["a0: &a0 {" + ", ".join(f"k{n}: {n}" for n in range(10)) + "}"]
    lines += [f"a{n}: &a{n}\n  <<: [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    began_at = time.monotonic()
    only(found(yolo(tmp_path / "p", "\n".join([*lines, "names: [Cup, Dish]"]))).problems, "merges copy more than")
    assert time.monotonic() - began_at < 5


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("names: [" + "Cup, " * 200_000 + "Dish]", "limit: 524288"),
        ("[" * 100_000, "not valid YAML"),
        ("a: &a\n  <<: *a\n", "not valid YAML"),
        ("<<: 1\n", "expected an object to merge"),
        ("a: !!python/object/apply:os.system [ls]", "not valid YAML"),
    ],
)
def test_what_can_not_be_read_says_why(tmp_path: Path, content: str, words: str) -> None:
    file = tmp_path / "data.yaml"
    file.write_text(content)
    with pytest.raises(NotYaml, match=words):
        yaml_reading.read(file)


def test_a_huge_file_is_named_with_its_limit(tmp_path: Path) -> None:
    only(found(yolo(tmp_path / "p", "names: [" + "Cup, " * 200_000 + "Dish]")).problems, "data.yaml has", "(limit: ")
