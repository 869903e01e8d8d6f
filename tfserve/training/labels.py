"""The labels of classes: from folder names, or numbered by a `labels_info.txt`."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path

from tfserve.errors import nearest

INFO_FILE = "labels_info.txt"

MAX_BYTES = 4 * 1024 * 1024

_LINE = re.compile(r"(.*),\s*([0-9]{1,9})\s*")
_OTHER = re.compile(r"[^a-z0-9]+")


def from_folder(name: str) -> str:
    """`Cup_Large` → `cup large`: lower case, every run of characters outside a-z0-9 one space."""
    return _OTHER.sub(" ", name.lower())


class LabelsInfo:
    """What a `labels_info.txt` says: a header line, then `label,number`. `problems` are sentences with its path.

    Blanks around a label don't count, unless a `known` label has them: that of a folder `Cup_` is `cup `.
    """

    def __init__(self, path: Path, known: Collection[str]) -> None:
        self.path = path
        self._known = known
        self.numbers: dict[str, int] = {}
        self.problems: list[str] = []
        self._read()

    @classmethod
    def find(cls, project: Path, known: Collection[str] = ()) -> LabelsInfo | None:
        path = project / INFO_FILE
        return cls(path, known) if os.path.lexists(path) else None

    def compare(self, labels: Sequence[str]) -> list[str]:
        """Problems where these labels, found in the project, and those in the file are not the same."""
        unknown = [label for label in self.numbers if label not in labels]
        missing = [label for label in labels if label not in self.numbers]
        problems = [
            f"{self.path} names {label!r}, for which there are no images{nearest(label, labels)}." for label in unknown
        ]
        if self.numbers:
            problems += [
                f"{self.path} gives no number to {label!r}. Add a line '{label},<number>'." for label in missing
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
                f"{self.path}, line 1: a header line was expected, such as 'label,number'; found {lines[0][:80]!r}."
            )
        for row, line in enumerate(lines[1:], start=2):
            if line.strip():
                self._read_line(row, line)
        if not self.numbers and not self.problems:
            self.problems.append(f"{self.path} has no labels. Expected: a header line, then label,number in each line.")

    def _text(self) -> str:
        if not self.path.is_file():
            raise OSError("it is no file")
        if self.path.stat().st_size > MAX_BYTES:
            raise OSError(f"it has more than {MAX_BYTES} bytes")
        return self.path.read_text(encoding="utf-8-sig")

    def _read_line(self, row: int, line: str) -> None:
        parts = _LINE.fullmatch(line)
        label = self._label(parts[1]) if parts else ""
        if parts is None or not label:
            self.problems.append(
                f"{self.path}, line {row}: expected label,number, such as 'cup,0'; found {line[:80]!r}."
            )
            return
        number = int(parts[2])
        if label in self.numbers:
            self.problems.append(f"{self.path}, line {row}: {label!r} is there twice.")
        elif number in self.numbers.values():
            self.problems.append(f"{self.path}, line {row}: the number {number} is given twice.")
        else:
            self.numbers[label] = number

    def _label(self, name: str) -> str:
        label = from_folder(name.strip('"'))
        return label if label in self._known else label.strip()
