"""The labels of classes: from folder names, or numbered by a `labels_info.txt`.

A label has only a-z, 0-9 and single blanks, as the contract says. The name as the user writes it is kept next to it.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path

from tfserve.errors import nearest
from tfserve.training.dataset import text_reading

INFO_FILE = "labels_info.txt"

MAX_BYTES = 4 * 1024 * 1024

_LINE = re.compile(r"(.*),\s*(?:([0-9]{1,9})|#([0-9a-fA-F]{6}))\s*")
MAX_DIGITS = 9
"""Of the number of a class."""
_OTHER = re.compile(r"[^a-z0-9]+")
_BLANKS = re.compile(r"[\s_-]+")


def from_folder(name: str) -> str:
    """`Cup_Large` → `cup large`: lower case, every run of characters outside a-z0-9 one space."""
    return _OTHER.sub(" ", name.lower())


def number_of(text: str) -> int | None:
    """The number of a class; None for anything else, such as ² or a thousand digits."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS else None


def distinct(names: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Name → label for each of these names, and remarks about labels that had to be numbered.

    A name without a letter a-z or a digit, such as 猫, and one whose label another name has (C# after C++) get the
    first free number. Names that have a label of their own keep it.
    """
    found: dict[str, str] = {}
    for name in sorted(names, key=lambda name: (from_folder(name) != name, name)):
        label = from_folder(name)
        if label.strip() and label not in found.values():
            found[name] = label
    remarks = []
    for name in sorted(set(names) - found.keys()):
        stem = from_folder(name).strip()
        taken = set(found.values()) | {from_folder(each) for each in names}
        found[name] = next(
            label for number in count(2 if stem else 1) if (label := f"{stem or 'class'} {number}") not in taken
        )
        why = "has the same label as another class" if stem else "has no letter a-z and no digit"
        remarks.append(f"{name!r} {why}, so its label is {found[name]!r} and its display name {name!r}.")
    return found, remarks + _perhaps_one(names)


def _perhaps_one(names: Sequence[str]) -> list[str]:
    """A remark about words that differ only in capitals, blanks and hyphens: often one class in two spellings.

    Single letters are classes of their own in many projects.
    """
    spellings: dict[str, list[str]] = {}
    for name in sorted(name for name in names if len(name) > 1):
        spellings.setdefault(_BLANKS.sub(" ", simple(name)), []).append(name)
    return [
        f"{' and '.join(map(repr, same))} are learnt as different classes. If they are one class, give it one name."
        for same in spellings.values() if len(same) > 1
    ]  # fmt: skip


def simple(name: str) -> str:
    """The form in which names are compared: one Unicode normal form, without capitals and outer blanks."""
    return unicodedata.normalize("NFC", name).strip().strip('"').casefold()


class LabelsInfo:
    """The content of a `labels_info.txt`: a header line, then `label,number`, or `label,#rrggbb` for masks in colours.

    Labels are given as they are or as the user writes the name: `known` has the label of each name that the project
    has. Blanks around a label don't count, unless a known label has them: that of a folder `Cup_` is `cup `.
    `problems` are sentences with the file's path, `names` the names as they are written, by label.
    """

    def __init__(self, path: Path, known: Mapping[str, str]) -> None:
        self.path = path
        self._known = {simple(name): label for name, label in known.items()}
        self._labels = set(known.values())
        self.numbers: dict[str, int] = {}
        self.colours: dict[str, str] = {}
        self.names: dict[str, str] = {}
        self.problems: list[str] = []
        self._read()

    @classmethod
    def find(cls, project: Path, known: Mapping[str, str] | None = None) -> LabelsInfo | None:
        path = project / INFO_FILE
        return cls(path, known or {}) if os.path.lexists(path) else None

    def compare(self, labels: Sequence[str]) -> list[str]:
        """The problems where the labels of the project and those in the file differ."""
        unknown = [label for label in self.numbers if label not in labels]
        missing = [label for label in labels if label not in self.numbers]
        problems = [
            f"{self.path} lists {self.names[label]!r}, but no image has this label{nearest(label, labels)}."
            for label in unknown
        ]
        problems += [f"{self.path} has a colour for {label!r}. Expected a number." for label in self.colours]
        if self.numbers:
            problems += [
                f"{self.path} has no number for {label!r}. Add a line '{label},<number>'." for label in missing
            ]
        return problems

    def _read(self) -> None:
        try:
            lines = self._text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            self.problems.append(f"{self.path} can't be read as UTF-8 text: {error}.")
            return
        if lines and _LINE.fullmatch(lines[0]):
            self.problems.append(
                f"{self.path}, line 1: expected a header line, such as 'label,number', got {lines[0][:80]!r}."
            )
        for row, line in enumerate(lines[1:], start=2):
            if line.strip():
                self._read_line(row, line)
        if not self.names and not self.problems:
            self.problems.append(f"{self.path} has no labels. Expected: a header line, then label,number on each line.")

    def _text(self) -> str:
        if not self.path.is_file():
            raise OSError("it is not a file")
        if self.path.stat().st_size > MAX_BYTES:
            raise OSError(f"it has more than {MAX_BYTES} bytes")
        return text_reading.read(self.path)

    def _read_line(self, row: int, line: str) -> None:
        parts = _LINE.fullmatch(line)
        name = parts[1].strip().strip('"') if parts else ""
        label = self._label(line) if parts else ""
        if parts is None or not label:
            self.problems.append(f"{self.path}, line {row}: expected label,number, such as 'cup,0', got {line[:80]!r}.")
            return
        value = int(parts[2]) if parts[2] else f"#{parts[3].lower()}"
        if label in self.names:
            self.problems.append(f"{self.path}, line {row}: {label!r} occurs twice.")
        elif value in self.numbers.values() or value in self.colours.values():
            what = "number" if parts[2] else "colour"
            self.problems.append(f"{self.path}, line {row}: the {what} {value} occurs twice.")
        else:
            self.names[label] = unicodedata.normalize("NFC", name)
            self._put(label, value)

    def _put(self, label: str, value: int | str) -> None:
        if isinstance(value, int):
            self.numbers[label] = value
        else:
            self.colours[label] = value

    def _label(self, line: str) -> str:
        """The label of the name in a line: by the name as it is written, else by its label, else a new one."""
        name = line.rpartition(",")[0]
        if known := self._known.get(simple(name)):
            return known
        label = from_folder(name.strip('"'))
        if label in self._labels:
            return label
        if label.strip():
            return label.strip()
        if self._known:  # a name that the project does not have must not get the label of another one
            return simple(name)
        return next(each for number in count(1) if (each := f"class {number}") not in self.names)
