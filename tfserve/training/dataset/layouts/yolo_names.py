"""What goes along with YOLO's text files: names of classes, and the images of each part of a split."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tfserve.training.dataset import text_reading, yaml_reading
from tfserve.training.dataset.layouts.image_index import ImageIndex
from tfserve.training.dataset.layouts.parts import part_of
from tfserve.training.dataset.search import Search, same_form
from tfserve.training.dataset.yaml_reading import NotYaml

TEXT_NAMES = ("classes.txt", "obj.names")
YAML_NAMES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
YAML = (".yaml", ".yml")
SUFFIXES = (*YAML, ".txt", ".names")
MAX_YAML_FILES = 50
MAX_BYTES = 2**24
PARTS = ("train", "val", "valid", "test")


@dataclass
class YoloNames:
    """`files` are those that hold no boxes. `keypoints` is how many numbers follow each box in the text files."""

    names: dict[int, str] = field(default_factory=dict)
    parts: dict[Path, str] = field(default_factory=dict)
    files: set[Path] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)
    keypoints: int = 0
    source: str = ""

    def name(self, number: int) -> str:
        return self.names.get(number, f"class {number}")


def read(search: Search, index: ImageIndex) -> YoloNames:
    """From the files nearest to the top."""
    found = YoloNames()
    files = search.below(search.root, SUFFIXES, depth=3)
    files.sort(key=lambda file: (len(file.parts), file.name not in (*YAML_NAMES, *TEXT_NAMES), file.name))
    too_many = {*[file for file in files if file.suffix in YAML][MAX_YAML_FILES:]}
    for file in (file for file in files if file not in too_many):
        if file.suffix in YAML:
            _read_yaml(search, file, index, found)
        elif file.name in TEXT_NAMES or file.suffix == ".names":
            found.files.add(file)
            _take(found, search, file, dict(enumerate(line.strip() for line in _text(file).strip().splitlines())))
        elif part := part_of(file.stem):
            found.files.add(file)
            _read_list(file, part, index, found)
    return found


def _take(found: YoloNames, search: Search, file: Path, names: dict[int, str]) -> None:
    """The first file counts."""
    if names and not found.names:
        found.names = {number: same_form(name) or f"class {number}" for number, name in names.items()}
        found.source = search.name(file)


def _read_yaml(search: Search, file: Path, index: ImageIndex, found: YoloNames) -> None:
    try:
        content = yaml_reading.read(file)
    except NotYaml as error:
        if file.name in YAML_NAMES:
            found.problems.append(f"{search.name(file)} {error}.")
        return
    names = _names(content.get("names")) if isinstance(content, dict) else None
    if names is not None and isinstance(content, dict):
        _take(found, search, file, names)
        _read_parts(search, file, content, index, found)
    elif file.name in YAML_NAMES:
        found.problems.append(f"{search.name(file)} has no class names. Expected `names: [first, second, …]`.")


def _names(value: Any) -> dict[int, str] | None:
    try:
        if isinstance(value, dict):
            return {int(number): _name(name) for number, name in value.items()}
        return dict(enumerate(map(_name, value))) if isinstance(value, list) else None
    except (TypeError, ValueError, OverflowError):
        return None


def _name(value: Any) -> str:
    """Raises `TypeError` for a list or an object: a few aliases make them endless. Surrogates can't be sent."""
    if isinstance(value, (list, dict, set, tuple, bytes)):
        raise TypeError(f"expected a name, got {type(value).__name__}")
    return str(value).strip().encode(errors="replace").decode()


def _read_parts(search: Search, file: Path, content: dict[str, Any], index: ImageIndex, found: YoloNames) -> None:
    """`train`, `val` and `test`: folders or lists of images; and `kpt_shape`, the keypoints of a pose."""
    shape = content.get("kpt_shape")
    if isinstance(shape, list) and len(shape) == 2 and all(isinstance(each, int) for each in shape):
        found.keypoints = shape[0] * shape[1]
    for key in PARTS:
        entries = content.get(key)
        for entry in entries if isinstance(entries, list) else [entries]:
            if not isinstance(entry, str) or not (path := _located(search, file, entry)):
                continue
            if path.is_file():
                _read_list(path, part_of(key), index, found)
            else:
                for image in index.files:
                    if image.is_relative_to(path):
                        found.parts.setdefault(image, part_of(key))


def _located(search: Search, file: Path, entry: str) -> Path | None:
    """The folder or file that an entry means, inside the project: the paths are those of another machine."""
    parts = [part for part in entry.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    for start in range(len(parts)):
        for base in (file.parent, search.root):
            path = base.joinpath(*parts[start:])
            with contextlib.suppress(OSError, ValueError):  # a name that is too long, or has a NUL in it
                if path.exists() and search.bounds.contain(path):
                    return path
    return None


def _read_list(file: Path, part: str, index: ImageIndex, found: YoloNames) -> None:
    """A path of an image on each line."""
    for line in _text(file).splitlines():
        if line.strip() and (image := index.find(line, file.parent)):
            found.parts.setdefault(image, part)


def _text(file: Path) -> str:
    """Empty if it can't be read."""
    try:
        return text_reading.read(file) if file.stat().st_size <= MAX_BYTES else ""
    except (OSError, UnicodeDecodeError):
        return ""
