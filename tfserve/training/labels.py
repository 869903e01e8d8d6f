"""The labels of classes: from folder names, or numbered by a `labels_info.txt`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tfserve.errors import nearest

INFO_FILE = "labels_info.txt"

_OTHER = re.compile(r"[^a-z0-9]+")


def from_folder(name: str) -> str:
    """`Cup_Large` → `cup large`: lower case, every run of characters outside a-z0-9 one space."""
    return _OTHER.sub(" ", name.lower())


class LabelsInfo:
    """What a `labels_info.txt` says: a header line, then `label,number`. `problems` are sentences with its path."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.numbers: dict[str, int] = {}
        self.problems: list[str] = []
        self._read()

    @classmethod
    def find(cls, project: Path) -> LabelsInfo | None:
        path = project / INFO_FILE
        return cls(path) if path.exists() else None

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
            lines = self.path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            self.problems.append(f"{self.path} can't be read as UTF-8 text: {error}.")
            return
        for row, line in enumerate(lines[1:], start=2):
            if line.strip():
                self._read_line(row, line)
        if not self.numbers and not self.problems:
            self.problems.append(f"{self.path} has no labels. Expected: a header line, then label,number in each line.")

    def _read_line(self, row: int, line: str) -> None:
        name, comma, number = line.rpartition(",")
        label = from_folder(name.strip().strip('"'))
        if not comma or not label.strip() or not (number.strip().isascii() and number.strip().isdigit()):
            self.problems.append(
                f"{self.path}, line {row}: expected label,number, such as 'cup,0'; found {line[:80]!r}."
            )
        elif label in self.numbers:
            self.problems.append(f"{self.path}, line {row}: {label!r} is there twice.")
        elif int(number) in self.numbers.values():
            self.problems.append(f"{self.path}, line {row}: the number {int(number)} is given twice.")
        else:
            self.numbers[label] = int(number)
