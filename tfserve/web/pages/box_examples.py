"""The boxes that a detector drew on held-out images, prepared for the page of its training."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tfserve.training.report.box_examples import EXAMPLES_FILE
from tfserve.training.report.mask_examples import COLOURS
from tfserve.web.pages.templatetags.units import percent

TEXT_SHARE = 24
"""The width of an image in heights of its texts."""
MAX_BOXES = 20
"""Of each kind in one image: more would cover it."""


class DrawnBox(NamedTuple):
    """A rectangle in pixels of the image, with a colour of its class and a text at `text_y`."""

    x: float
    y: float
    width: float
    height: float
    colour: str
    text: str
    text_y: float
    state: str


class BoxExample(NamedTuple):
    """A held-out image: its address, its size, and boxes whose `state` is true, right, wrong or missed.

    `text_size` and `line` are the size of texts and the width of lines, in pixels of the image.
    """

    file: str
    image: str
    width: int
    height: int
    text_size: float
    line: float
    boxes: list[DrawnBox]
    wrong: list[str]
    missed: list[str]
    right: list[str]

    @property
    def summary(self) -> str:
        """In words what the drawing shows."""
        parts = (("found", self.right), ("wrong", self.wrong), ("missed", self.missed))
        said = [f"{word}: {_listed(each)}" for word, each in parts if each]
        return "; ".join(said) or "no objects, and none found"


def read(folder: Path, url: str, labels: Sequence[str]) -> list[BoxExample]:
    """The examples of the result in `folder`, whose files are below `url`; none if it has none that can be read."""
    try:
        rows = json.loads((folder / EXAMPLES_FILE).read_text(encoding="utf-8"))
        return [_example(row, url, labels) for row in rows]
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return []


def _example(row: Mapping[str, Any], url: str, labels: Sequence[str]) -> BoxExample:
    size = row["width"] / TEXT_SHARE
    true, predicted = row["true"], row["predicted"]

    def named(each: Mapping[str, Any]) -> str:
        return f"{labels[each['label']]} {percent(each['score'])}"

    drawn = [_drawn(each, size, "missed" if each["missed"] else "true", "") for each in _first(true, "missed")]
    drawn += [
        _drawn(each, size, "wrong" if each["wrong"] else "right", named(each)) for each in _first(predicted, "wrong")
    ]
    return BoxExample(
        row["file"], url + row["image"], row["width"], row["height"], size, size / 8, drawn,
        wrong=[named(each) for each in predicted if each["wrong"]],
        missed=[labels[each["label"]] for each in true if each["missed"]],
        right=[named(each) for each in predicted if not each["wrong"]],
    )  # fmt: skip


def _first(boxes: Sequence[Mapping[str, Any]], flag: str) -> list[Mapping[str, Any]]:
    """As many as are drawn, first those with the flag."""
    return sorted(boxes, key=lambda each: not each[flag])[:MAX_BOXES]


def _listed(names: Sequence[str]) -> str:
    more = len(names) - MAX_BOXES
    return ", ".join(names[:MAX_BOXES]) + (f" and {more} more" if more > 0 else "")


def _drawn(each: Mapping[str, Any], size: float, state: str, text: str) -> DrawnBox:
    left, top, right, bottom = each["box"]
    colour = f"#{COLOURS[each['label'] % len(COLOURS)]}"
    return DrawnBox(left, top, right - left, bottom - top, colour, text, max(size, top - size / 4), state)
