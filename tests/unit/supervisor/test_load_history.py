"""How many replicas an autoscaled model gets for its load."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import pytest

from tfserve.ipc.messages import Autoscale
from tfserve.supervisor.models.load_history import SMOOTHED, LoadHistory

LIMITS = Autoscale(min=1, max=6, target_queue=4.0)


def followed(readings: Iterable[int], *, limits: Autoscale = LIMITS, start: int = 1) -> Iterator[int]:
    """The number of replicas after each reading, one a second."""
    history, current = LoadHistory(down_after_s=60), start
    for second, in_flight in enumerate(readings):
        history.add(float(second), in_flight)
        current = history.replicas(limits, current)
        yield current


@pytest.mark.parametrize(
    ("in_flight", "replicas"), [(0, 1), (1, 1), (4, 1), (5, 2), (8, 2), (9, 3), (24, 6), (25, 6), (1000, 6)]
)
def test_a_constant_load_gets_enough_replicas_within_three_readings(in_flight: int, replicas: int) -> None:
    assert [*followed([in_flight] * SMOOTHED)][-1] == replicas


def test_one_burst_between_two_readings_starts_nothing() -> None:
    assert set(followed([0, 0, 11, 0, 0])) == {1}


def test_more_load_is_followed_at_once_and_less_only_after_a_minute() -> None:
    numbers = [*followed([0] * 10 + [16] * 10 + [0] * 70)]
    assert numbers[9] == 1
    assert numbers[9 + SMOOTHED] == 4
    fewer_at = numbers.index(1, 15)
    assert 19 + 60 <= fewer_at <= 19 + 60 + SMOOTHED
    assert set(numbers[fewer_at:]) == {1}


def test_a_load_around_a_limit_does_not_start_and_end_replicas_again_and_again() -> None:
    numbers = [*followed([7, 9] * 200)]
    changes = sum(one != other for one, other in itertools.pairwise(numbers))
    assert changes <= 2


def test_the_peak_of_the_last_minute_decides_how_few_remain() -> None:
    numbers = [*followed([24] * 10 + [10] * 100, start=6)]
    assert numbers[60] == 6
    assert numbers[-1] == 3


@pytest.mark.parametrize(("start", "expected"), [(1, 2), (9, 4), (3, 3)])
def test_new_limits_apply_at_once(start: int, expected: int) -> None:
    assert next(followed([12], limits=Autoscale(min=2, max=4), start=start)) == expected


def test_a_pause_between_readings_counts_with_its_time() -> None:
    history = LoadHistory(down_after_s=60)
    for now in (0.0, 1.0, 2.0):
        history.add(now, 20)
    assert history.replicas(LIMITS, 5) == 5
    for now in (100.0, 101.0, 102.0):
        history.add(now, 0)
    assert history.replicas(LIMITS, 5) == 4, "the average of the readings around the pause is 40 / 3"
