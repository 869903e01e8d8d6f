"""How long a dead worker stays dead, and when it is given up."""

from __future__ import annotations

from itertools import pairwise

from tfserve.supervisor.processes.restarts import MAX_DEATHS, MAX_DELAY_S, STABLE_S, ModelDeaths, Restarts


def delays(restarts: Restarts, count: int, *, lived_s: float = 0.1) -> list[float]:
    """The delays after so many deaths, all at the same moment."""
    found = []
    for _ in range(count):
        restarts.died(now=100.0, lived_s=lived_s)
        found.append(restarts.delay_s(100.0))
    return found


def test_the_first_restart_is_immediate_and_each_further_one_in_a_row_waits_twice_as_long_up_to_a_limit() -> None:
    found = delays(Restarts(), 10)
    assert found[:3] == [0.0, 0.25, 0.5]
    assert all(later == min(MAX_DELAY_S, earlier * 2) for earlier, later in pairwise(found[1:]))
    assert found[-1] == MAX_DELAY_S


def test_the_delay_passes_with_the_time() -> None:
    restarts = Restarts()
    delays(restarts, 3)
    assert [restarts.delay_s(now) for now in (100.0, 100.25, 100.5, 200.0)] == [0.5, 0.25, 0.0, 0.0]


def test_after_several_deaths_in_a_row_it_is_given_up() -> None:
    restarts = Restarts()
    delays(restarts, MAX_DEATHS - 1)
    assert not restarts.given_up
    delays(restarts, 1)
    assert restarts.given_up


def test_a_worker_that_lived_long_starts_a_new_row_and_one_that_worked_ends_it() -> None:
    restarts = Restarts()
    assert delays(restarts, 20, lived_s=STABLE_S) == [0.0] * 20
    assert not restarts.given_up
    delays(restarts, MAX_DEATHS)
    restarts.worked()
    assert not restarts.given_up
    assert restarts.delay_s(100.0) == 0.0
    assert delays(restarts, 2) == [0.0, 0.25]


def test_a_model_waits_for_the_longer_of_its_two_delays() -> None:
    deaths = ModelDeaths()
    delays(deaths.serving, 2)
    delays(deaths.loading, 3)
    assert deaths.delay_s(100.0) == 0.5
    deaths.loading.worked()
    assert deaths.delay_s(100.0) == 0.25
