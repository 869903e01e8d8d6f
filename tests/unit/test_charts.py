"""Charts and traffic of the pages: points, axes, medians."""

from __future__ import annotations

import math

import pytest

from tfserve.ipc.metrics import LATENCY_BUCKETS_S, Histogram, ModelSample
from tfserve.web.pages.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, chart, spark
from tfserve.web.pages.traffic import median_s, traffic


def points(text: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in text.split())]


def test_the_lines_of_a_chart_stay_inside_of_its_axes() -> None:
    drawn = chart("Loss", {"training": [2.0, 1.0, 0.1], "selection": [2.5, 1.2, 0.9]})
    assert drawn is not None
    for line in drawn.lines:
        for x, y in points(line.points):
            assert LEFT <= x <= WIDTH - RIGHT
            assert TOP <= y <= HEIGHT - BOTTOM
    assert points(drawn.lines[0].points)[0][1] < points(drawn.lines[0].points)[-1][1], "a falling loss falls"
    assert [mark.label for mark in drawn.columns] == ["1", "2", "3"]


@pytest.mark.parametrize("values", [[0.5], [0.0, 0.0], [1e-9, 2e-9], [-3.0, 4.0], [0.99, 1.0], [1e6] * 500])
def test_the_ticks_of_a_chart_are_few_and_enclose_the_values(values: list[float]) -> None:
    drawn = chart("x", {"x": values})
    assert drawn is not None
    labels = [float(mark.label) for mark in drawn.rows]
    assert 2 <= len(labels) <= 7
    assert labels[0] <= min(values) + 1e-12
    assert labels[-1] >= max(values) - abs(max(values)) * 1e-3


def test_values_that_are_not_finite_leave_a_gap() -> None:
    drawn = chart("Loss", {"a": [1.0, math.nan, 3.0]})
    assert drawn is not None
    assert len(points(drawn.lines[0].points)) == 2
    assert chart("Loss", {"a": [math.inf]}) is None
    assert chart("Loss", {}) is None


def test_a_line_of_many_points_keeps_its_peaks_and_its_ends() -> None:
    values = [1.0] * 5000
    values[1234], values[4321] = 9.0, -3.0
    drawn = chart("Loss", {"a": values, "b": values[:50]})
    assert drawn is not None
    long, short = (points(line.points) for line in drawn.lines)
    assert len(long) <= 50
    assert len(short) == 50
    heights = [y for _, y in long]
    assert len({*heights}) == 3, "the two peaks and all else"
    assert (long[0][0], long[-1][0]) == (LEFT, WIDTH - RIGHT)
    assert long == sorted(long)


def test_a_sparkline_needs_two_values() -> None:
    assert spark([1.0]) == ""
    assert [x for x, _ in points(spark([0.0, 5.0, 10.0]))] == [0.0, 80.0, 160.0]


def test_the_median_lies_in_its_bucket() -> None:
    counts = [0] * (len(LATENCY_BUCKETS_S) + 1)
    assert median_s(counts) is None
    counts[2] = 10
    median = median_s(counts)
    assert median is not None
    assert LATENCY_BUCKETS_S[1] < median <= LATENCY_BUCKETS_S[2]
    counts[-1] = 100
    assert median_s(counts) == LATENCY_BUCKETS_S[-1], "the last bucket has no end"


def sample(at: float, requests: int, *, errors: int = 0, rows: int = 0, executions: float = 0.0) -> ModelSample:
    latency = Histogram()
    for _ in range(requests):
        latency.add(0.004)
    return ModelSample(at, requests, errors, rows, executions, latency)


def test_traffic_is_what_was_counted_between_two_samples() -> None:
    found = traffic([sample(0, 10), sample(5, 60, errors=1, rows=200, executions=50), sample(10, 60)])
    assert [each.rate for each in found.intervals] == [10.0, 0.0]
    assert found.intervals[0].batch == 4.0
    assert found.rate == 0.0
    assert found.p50_s is not None
    assert 0.0025 < found.p50_s <= 0.005
    assert found.total == 60


def test_traffic_ignores_an_interval_in_which_counters_went_back() -> None:
    found = traffic([sample(0, 100), sample(5, 3), sample(10, 8)])
    assert [each.requests for each in found.intervals] == [5]
    assert traffic([]).rate == 0.0
