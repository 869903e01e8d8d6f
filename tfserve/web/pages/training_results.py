"""What the pages of a finished training show, read from the files of its result."""

from __future__ import annotations

import csv
import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec
from django.utils.safestring import SafeString
from markdown_it import MarkdownIt

from tfserve.training.report.mask_examples import EXAMPLES_FILE, PARTS
from tfserve.training.report.single_images import HELD_OUT_FILE
from tfserve.web.pages import box_examples
from tfserve.web.pages.box_examples import BoxExample
from tfserve.web.pages.listing import escaped_size

MAX_MATRIX, MATRIX_BYTES = 30, 14_000
"""Of more classes, or if the matrix takes more, a list of what is confused most is shown instead."""
CELL_BYTES, EMPTY_CELL_BYTES, LABEL_BYTES = 65, 4, 55
MAX_SHOWN = 60
MAX_MISTAKES = 24
MAX_PAIRS = 12
HEAT_STEPS = 10
README_BYTES = 50_000
KEPT_RESULTS, KEPT_HISTORIES = 4, 100
"""Kept in memory, because an open page is made again at each change."""
TABLE = '<div class="scroll" tabindex="0" role="group" aria-label="Table"><table>'
"""Wide tables scroll, also with the keyboard."""


class HeldOutImage(NamedTuple):
    """A held-out image. `url` is the address of a thumbnail."""

    url: str
    file: str
    true: str
    predicted: str
    score: float

    @property
    def is_wrong(self) -> bool:
        return self.true != self.predicted


class Cell(NamedTuple):
    """A cell of the confusion matrix. `share` is that of the true class, `heat` the same from 0 to 10."""

    number: int
    share: float
    heat: int
    true: int
    predicted: int
    label: str


class ConfusedPair(NamedTuple):
    """Two classes that were confused."""

    true: str
    predicted: str
    number: int
    cell: tuple[int, int]


class Bin(NamedTuple):
    """A bar of the reliability diagram, in the coordinates of a viewBox of 100 x 100."""

    x: float
    accuracy: float
    label: str


class MaskExample(NamedTuple):
    """Addresses of an image, of the true mask and of the predicted one, and how well they agree."""

    file: str
    iou: float
    image: str
    true: str
    predicted: str


@dataclass(frozen=True)
class TrainingResult:
    """The result in `folder` of a task; `url` is the address of its files."""

    task_id: str
    folder: Path
    url: str
    metrics: Mapping[str, Any]

    @classmethod
    def read(cls, task_id: str, folder: Path) -> TrainingResult | None:
        """None without a result. What was read is kept: a result does not change, and its matrix may be large."""
        file = folder / "metrics.json"
        try:
            return _read(task_id, file, file.stat().st_mtime_ns)
        except (OSError, ValueError):
            return None

    @property
    def labels(self) -> list[str]:
        return list(self.metrics.get("display") or self.metrics.get("labels") or [])

    @property
    def history(self) -> dict[str, list[float]]:
        history: dict[str, list[float]] = self.metrics.get("epochs", {}).get("history") or {}
        return history

    @cached_property
    def per_class(self) -> list[dict[str, Any]]:
        """The metrics of each class, with the label as the user writes it."""
        rows = self.metrics.get("per_class") or []
        return [{**row, "label": label} for row, label in zip(rows, self.labels, strict=False)]

    @property
    def columns(self) -> list[str]:
        """The names of these metrics."""
        return [name for name in (self.metrics.get("per_class") or [{}])[0] if name != "label"]

    @property
    def exports(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.metrics.get("exports") or []
        return found

    @cached_property
    def matrix(self) -> list[tuple[str, list[Cell]]]:
        """The rows of the confusion matrix with the true label; empty if there is too much to show."""
        counts = self.metrics.get("confusion_matrix") or []
        if len(counts) > MAX_MATRIX or self._matrix_bytes(counts) > MATRIX_BYTES:
            return []
        return [(self.labels[true], self._cells(true, row)) for true, row in enumerate(counts)]

    @property
    def counts_images(self) -> bool:
        """Whether the cells of the confusion matrix count images. Those of a segmentation count pixels."""
        return "accuracy" in self.metrics

    @cached_property
    def pairs(self) -> list[ConfusedPair]:
        """What was confused most."""
        counts = self.metrics.get("confusion_matrix") or []
        wrong = [
            (n, t, p) for t, row in enumerate(counts) if sum(row) > row[t] for p, n in enumerate(row) if n and t != p
        ]
        wrong.sort(key=lambda each: -each[0])
        return [ConfusedPair(self.labels[t], self.labels[p], n, (t, p)) for n, t, p in wrong[:MAX_PAIRS]]

    @cached_property
    def predictions(self) -> list[HeldOutImage]:
        """All held-out images of a classification."""
        try:
            with (self.folder / HELD_OUT_FILE).open(encoding="utf-8", newline="") as file:
                return [self._prediction(row) for row in csv.DictReader(file)]
        except (OSError, ValueError, KeyError):
            return []

    def of_cell(self, true: int, predicted: int) -> list[HeldOutImage]:
        """The images of a cell of the confusion matrix, the most certain predictions first."""
        labels = self.labels
        if not (0 <= true < len(labels) and 0 <= predicted < len(labels)):
            return []
        found = [each for each in self.predictions if (each.true, each.predicted) == (labels[true], labels[predicted])]
        return sorted(found, key=lambda each: -each.score)[:MAX_SHOWN]

    @cached_property
    def mistakes(self) -> list[HeldOutImage]:
        """The worst first."""
        return sorted((each for each in self.predictions if each.is_wrong), key=lambda each: -each.score)[:MAX_MISTAKES]

    @property
    def calibration(self) -> list[Bin]:
        bins = self.metrics.get("calibration", {}).get("bins", [])
        return [
            Bin(100 * each["from"], 100 * each["accuracy"], _bin_label(each)) for each in bins if each.get("images")
        ]

    @property
    def calibration_error(self) -> float | None:
        error: float | None = self.metrics.get("calibration", {}).get("expected_calibration_error")
        return error

    @property
    def mask_examples(self) -> list[MaskExample]:
        try:
            rows = json.loads((self.folder / EXAMPLES_FILE).read_text())
        except (OSError, ValueError):
            return []
        return [MaskExample(row["file"], row["iou"], *(self.url + row[each] for each in PARTS)) for row in rows]

    @cached_property
    def box_examples(self) -> list[BoxExample]:
        return box_examples.read(self.folder, self.url, self.labels)

    @property
    def plots(self) -> list[str]:
        """The names of plots that the page does not draw itself."""
        folder = self.folder / "plots"
        drawn = {
            "candidates",
            "curves",
            "confusion_matrix",
            *(["worst_mistakes"] if self.box_examples or self.predictions else []),
            *(["masks"] if self.mask_examples else []),
            *(["boxes"] if self.box_examples else []),
        }
        return sorted(each.stem for each in folder.glob("*.png") if each.stem not in drawn)

    @property
    def readme(self) -> SafeString:
        """The beginning of README.md as HTML. Its HTML is shown as text."""
        try:
            text = (self.folder / "README.md").read_text(encoding="utf-8")
        except (OSError, ValueError):
            return SafeString("")
        html, shown = _html(text), text
        while (size := len(html.encode())) > README_BYTES:
            shown = shown[: shown.rfind("\n", 0, len(shown) * README_BYTES // size)]
            html = _html(f"{shown}\n\n…")
        return SafeString(html)

    @property
    def has_readme(self) -> bool:
        return (self.folder / "README.md").is_file()

    def _matrix_bytes(self, counts: Sequence[Sequence[int]]) -> int:
        cells = [CELL_BYTES if each else EMPTY_CELL_BYTES for each in chain.from_iterable(counts)]
        return sum(cells) + sum(LABEL_BYTES + 2 * escaped_size(each) for each in self.labels)

    def _cells(self, true: int, row: Sequence[int]) -> list[Cell]:
        total = sum(row) or 1
        return [
            Cell(
                count, count / total, round(HEAT_STEPS * count / total), true, predicted,
                f"{count} of {self.labels[true]} predicted as {self.labels[predicted]}",
            )
            for predicted, count in enumerate(row)
        ]  # fmt: skip

    def _prediction(self, row: Mapping[str, str]) -> HeldOutImage:
        url = f"/tasks/{self.task_id}/images/{quote(row['file'])}?placeholder=true"
        return HeldOutImage(url, row["file"], row["true"], row["predicted"], float(row["score"]))


@functools.lru_cache(maxsize=KEPT_RESULTS)
def _read(task_id: str, file: Path, _: int) -> TrainingResult:
    return TrainingResult(task_id, file.parent, f"/tasks/{task_id}/artifacts/", _metrics(file))


def _metrics(file: Path) -> dict[str, Any]:
    """Raises `OSError`, `ValueError`."""
    content = file.read_bytes()
    try:
        found: dict[str, Any] = msgspec.json.decode(content)
    except msgspec.DecodeError:  # NaN, which Python writes
        found = json.loads(content)
    return found


def history_at(folder: Path) -> Mapping[str, Sequence[float]]:
    """How the metrics of the result in `folder` developed; empty without a result."""
    file = folder / "metrics.json"
    try:
        return _history(file, file.stat().st_mtime_ns)
    except (OSError, ValueError):
        return {}


@functools.lru_cache(maxsize=KEPT_HISTORIES)
def _history(file: Path, _: int) -> Mapping[str, Sequence[float]]:
    return TrainingResult("", file.parent, "", _metrics(file)).history


def _bin_label(each: Mapping[str, Any]) -> str:
    return f"{each['from']:.0%} to {each['to']:.0%} sure: right in {each['accuracy']:.0%} of {each['images']} images"


def _html(markdown: str) -> str:
    html: str = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)
    return html.replace("<th></th>", "<td></td>").replace("<table>", TABLE).replace("</table>", "</table></div>")
