"""Classes in the names of files: taken only if they are certain."""

from __future__ import annotations

import json
from pathlib import Path
from zlib import crc32

import pytest
from layout_projects import counts, examined, good, parts
from projects import noise
from test_examination import only

LAYOUT = "the class in the names of files"


def named(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        noise(crc32(f"{folder}/{number}".encode())).save(folder / name)
    return folder


def numbered(pattern: str, *words: str, count: int = 4) -> list[str]:
    return [pattern.format(word=word, number=number) for word in words for number in range(count)]


@pytest.mark.parametrize("folder", [".", "images", "set/images"])
@pytest.mark.parametrize(
    "pattern",
    ["{word}.{number}.png", "{word}_{number:03}.png", "{word} ({number}).png", "{word}{number}.png",
     "{number:04}_{word}.png", "{word}-7-{number}.png"],
)  # fmt: skip
def test_a_word_and_a_number_is_a_class(tmp_path: Path, folder: str, pattern: str) -> None:
    named(tmp_path / "p" / folder, *numbered(pattern, "cat", "Great Dane"))
    found = good(tmp_path / "p")
    assert (found.layout.startswith(LAYOUT), counts(found)) == (True, {"Great Dane": 4, "cat": 4})
    only(found.remarks, "The classes were taken from the names of the files: Great Dane, cat.")


def test_names_of_many_digits_are_read_at_once(tmp_path: Path) -> None:
    digits = "1234567890" * 4
    named(tmp_path / "p", *(f"{digits}_{digits}_{number}_n.png" for number in range(8)))
    only(examined(tmp_path / "p").problems, "was not recognised")


@pytest.mark.parametrize(
    "pattern", ["{word}.{n}.png", "{word} 12 ({n}).png", "{word}-7-{n}.png", "{word}_2024_{n}.png"]
)
def test_all_numbers_after_the_word_are_left_out(tmp_path: Path, pattern: str) -> None:
    named(tmp_path / "p", *(pattern.format(word=word, n=n) for word in ("cat", "dog") for n in range(3)))
    assert counts(good(tmp_path / "p")) == {"cat": 3, "dog": 3}


@pytest.mark.parametrize(
    "content", [{"thumbnail": "cat_1.png", "count": 8}, {"thumbnail": "cat_1.png", "logo": "dog_1.png"}]
)
def test_other_json_that_mentions_an_image_is_no_table(tmp_path: Path, content: dict[str, object]) -> None:
    named(tmp_path / "p", *numbered("{word}_{number}.png", "cat", "dog"))
    (tmp_path / "p" / "config.json").write_text(json.dumps(content))
    assert counts(good(tmp_path / "p")) == {"cat": 4, "dog": 4}


def test_classes_with_numbers_of_their_own_are_kept(tmp_path: Path) -> None:
    named(tmp_path / "p", *numbered("type{word}_{number:03}.png", "1", "2"))
    assert counts(good(tmp_path / "p")) == {"type1": 4, "type2": 4}


def test_parts_of_a_split_are_kept_and_images_without_a_class_left_out(tmp_path: Path) -> None:
    named(tmp_path / "p" / "train", *numbered("{word}.{number}.png", "cat", "dog"))
    named(tmp_path / "p" / "val", *numbered("{word}.{number}.png", "cat", "dog", count=2))
    named(tmp_path / "p" / "test", "1.png", "2.png")
    found = good(tmp_path / "p")
    assert (counts(found), parts(found)) == ({"cat": 6, "dog": 6}, {"train": 8, "validation": 4})
    assert {each.path for each in found.skipped} == {"test/1.png", "test/2.png"}


@pytest.mark.parametrize(
    "names",
    [
        numbered("{word}_{number:04}.png", "IMG", "DSC"),
        numbered("{word}{number}.png", "IMG_2024_", "holiday"),
        numbered("{word} {number}.png", "Screenshot from 2024", "Screenshot from 2025"),
        numbered("{word}{number}.png", "Picture", "lake"),
        numbered("{word}_{number}.png", "cat"),
        [*numbered("{word}_{number}.png", "cat", "dog"), "readme.png"],
        [*numbered("{word}_{number}.png", "cat", "dog"), "bird_1.png"],
        [f"{number}.png" for number in range(8)],
        [f"title{letter}1.png" for letter in "abcdefgh"],
    ],
)
def test_names_that_are_not_certain_are_not_used(tmp_path: Path, names: list[str]) -> None:
    named(tmp_path / "p" / "images", *names)
    only(examined(tmp_path / "p").problems, "was not recognised", "the class in the names of files")


def test_a_table_that_lists_the_images_has_precedence(tmp_path: Path) -> None:
    names = numbered("{word}_{number}.png", "cat", "dog")
    named(tmp_path / "p" / "images", *names)
    rows = "\n".join(f"{name},{number},{number * 7 % 5}" for number, name in enumerate(names))
    (tmp_path / "p" / "x.csv").write_text(f"file,size,age\n{rows}\n")
    only(examined(tmp_path / "p").problems, "it is unclear which of its columns")
