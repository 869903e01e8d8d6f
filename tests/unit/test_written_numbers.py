"""Numbers in text: those that people write, and not all that Python reads."""

from __future__ import annotations

import pytest

from tfserve import written_numbers
from tfserve.training.dataset.layouts import yolo_boxes

NONE = ("", " ", "1_000", "\u0661", "nan", "inf", "0x10", "1 0", "+", "one")


@pytest.mark.parametrize(
    ("text", "number"), [("7", 7), (" -7\n", -7), ("+007", 7), *((text, None) for text in (*NONE, "1.0", "9" * 5000))]
)
def test_integers(text: str, number: int | None) -> None:
    assert written_numbers.integer(text) == number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("7", 7.0), ("-2.50", -2.5), (".5", 0.5), ("5.", 5.0), ("1e-05", 1e-5), (" 1E+2 ", 100.0),
        *((text, None) for text in (*NONE, ".", "e5", "1e", "1e999", "1,5")),
    ],
)  # fmt: skip
def test_finite_numbers(text: str, number: float | None) -> None:
    assert written_numbers.finite(text) == number


def test_a_box_with_another_number_is_wrong() -> None:
    assert yolo_boxes._box("1 0.5 0.5 0.2 0.2", 0) == (1, (0.4, 0.4, 0.2, 0.2), False)
    for line in ("1 0.5 0.5 0_2 0.2", "1 0.5 0.5 nan 0.2", "1 0.5 0.5 0.2 \u0660"):
        assert yolo_boxes._box(line, 0) == yolo_boxes.WRONG_LINE
