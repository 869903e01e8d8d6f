"""Numbers with a decimal comma."""

from __future__ import annotations

import pytest

from tfserve.training.dataset.number_text import with_points


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (["a.png", "0,25", "12,5"], ["a.png", "0.25", "12.5"]),
        (["0,25", "1,234"], ["0.25", "1.234"]),
        (["1,234", "5,678"], ["1,234", "5,678"]),
        (["1,5E-1"], ["1.5E-1"]),
        (["1,2,3", "x,5"], ["1,2,3", "x,5"]),
        (["0.25", "7"], ["0.25", "7"]),
    ],
)
def test_a_decimal_comma_becomes_a_point_where_it_is_certain(row: list[str], expected: list[str]) -> None:
    assert with_points([row]) == [expected]


def test_only_the_given_columns_decide_and_change() -> None:
    assert with_points([["class 1", "1,5", "1,234"]], {2}) == [["class 1", "1,5", "1,234"]]
    assert with_points([["class 1", "1,5", "0,5"]], {2}) == [["class 1", "1,5", "0.5"]]
