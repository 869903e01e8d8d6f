"""How a model finds out how many of its computations pay off at once, on simulated processors."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from tfserve.worker.model.concurrency import FEW_ROWS, FIRST_REST_NS, SUSTAINED_NS, Finished, Setting, Tuner, Way

LONE, SHARED, NARROW = Way(1, 2), Way(2, 2), Way(2, 1)

Rate = Callable[[Setting], float]
"""Rows per second with a way, and batches of that size."""


class Load:
    """Clients that keep `rows` requests of one row there, and a clock."""

    def __init__(
        self, rate: Rate, *, ways: Sequence[Way] = (LONE, SHARED, NARROW), max_batch: int = 64, rows: int = 32,
        noise: float = 0.0, seed: int = 1,
    ) -> None:  # fmt: skip
        self.tuner = Tuner(ways, max_batch, lambda: self.core_ns)
        self.rate = rate
        self.rows = rows
        self.noise = noise
        self.random = random.Random(seed)
        self.now_ns = self.core_ns = 0
        #: the share of the cores that other processes take: a new one for each computation
        self.taken: Callable[[], float] = lambda: 0.0
        self.used: list[Setting] = []
        self.changes = 0

    def run(self, seconds: float) -> Setting:
        """The choice afterwards. Computations of one setting end one after the other, evenly."""
        end_ns = self.now_ns + int(seconds * 1e9)
        while self.now_ns < end_ns:
            setting = self.tuner.setting
            self.used.append(setting)
            rows = max(1, min(setting.max_batch, self.rows // setting.way.computations))
            rate = self.rate(Setting(setting.way, rows)) * max(0.3, self.random.gauss(1, self.noise))
            needed_ns = int(rows / rate * 1e9)
            step_ns = int(needed_ns / (1 - self.taken()))
            self.now_ns += step_ns
            self.core_ns += 2 * needed_ns
            finished = Finished(rows, step_ns * setting.way.computations, self.rows - 1, self.rows)
            self.changes += self.tuner.add(self.now_ns, finished)
        return self.tuner.chosen


def like_mobilenet(setting: Setting) -> float:
    one = min(1.0, 0.6 + 0.1 * setting.max_batch)
    return {LONE: 67, SHARED: 110, NARROW: 130}[setting.way] * one


def prefers_large_batches(setting: Setting) -> float:
    return {LONE: 100, SHARED: 95, NARROW: 96}[setting.way] * setting.max_batch**0.5


def all_equal(_: Setting) -> float:
    return 100.0


def test_it_begins_with_the_most_promising_way() -> None:
    assert Load(all_equal).tuner.setting == Setting(NARROW, 64)
    assert Load(all_equal, ways=(LONE,)).tuner.setting == Setting(LONE, 64)


def test_a_network_that_gains_from_concurrent_computations_gets_them() -> None:
    assert Load(like_mobilenet).run(30).way == NARROW


def test_noise_does_not_hide_what_is_much_better() -> None:
    chosen = [Load(like_mobilenet, noise=0.4, seed=seed).run(60).way for seed in range(20)]
    assert chosen.count(LONE) == 0, chosen


def test_other_processes_on_the_same_cores_do_not_matter() -> None:
    for rate, way in ((like_mobilenet, NARROW), (prefers_large_batches, LONE)):
        load = Load(rate)
        load.taken = lambda load=load: load.random.choice([0.0, 0.5, 0.9])  # type: ignore[misc]
        assert load.run(300).way == way
        assert load.tuner.chosen.max_batch >= 4


def test_a_network_that_gains_from_batches_keeps_them() -> None:
    chosen = Load(prefers_large_batches).run(60)
    assert chosen.way == LONE
    assert chosen.max_batch >= 32


def test_small_differences_change_nothing() -> None:
    load = Load(all_equal)
    assert load.run(60) == Setting(NARROW, FEW_ROWS)
    assert load.changes == 1, "the batch size for slow rows"


def test_with_noise_alone_it_settles() -> None:
    """Equal alternatives may win by chance, but not again and again."""
    changes = []
    for seed in range(10):
        load = Load(all_equal, noise=0.15, seed=seed)
        load.run(120)
        before = load.changes
        load.run(120)
        changes.append(load.changes - before)
    assert sum(changes) <= len(changes), changes


def test_trials_cost_little_once_it_has_chosen() -> None:
    load = Load(like_mobilenet)
    chosen = load.run(60)
    load.used.clear()
    load.run(300)
    assert load.used.count(chosen) > 0.9 * len(load.used)


def test_it_corrects_itself_when_the_load_changes() -> None:
    load = Load(like_mobilenet)
    assert load.run(60).way == NARROW
    load.rate = prefers_large_batches
    assert load.run(120).way == LONE


def test_a_lone_client_is_no_load() -> None:
    load = Load(like_mobilenet, rows=1)
    assert load.run(30) == Setting(NARROW, FEW_ROWS)
    assert set(load.used[1:]) == {Setting(NARROW, FEW_ROWS)}
    assert not load.tuner.is_sustained


def test_requests_that_leave_the_model_idle_most_of_the_time_are_no_load() -> None:
    tuned = Load(all_equal).tuner
    for n in range(1000):
        tuned.add(n * 100_000_000, Finished(4, 10_000_000, 3, 4))
    assert tuned.setting == Setting(NARROW, FEW_ROWS)


def test_slow_rows_begin_with_small_batches_and_fast_ones_with_large_ones() -> None:
    for rate, batch in ((100.0, FEW_ROWS), (10_000.0, 64)):
        load = Load(lambda _, rate=rate: rate)  # type: ignore[misc]
        load.run(0.2)
        assert load.tuner.chosen == Setting(NARROW, batch)


def test_two_clients_are_enough() -> None:
    chosen = Load(like_mobilenet, rows=2).run(30)
    assert chosen.way == NARROW


def test_only_batches_that_can_be_filled_are_tried() -> None:
    load = Load(prefers_large_batches, rows=10)
    load.run(60)
    assert {setting.max_batch for setting in load.used if setting.way == NARROW} - {64} <= {1, 2, 4, 8}


def test_no_alternative_exceeds_the_maximum_batch_size() -> None:
    load = Load(prefers_large_batches, max_batch=12, rows=500)
    load.run(60)
    assert max(setting.max_batch for setting in load.used) == 12


def test_a_way_that_becomes_available_is_used_at_once_and_compared() -> None:
    load = Load(like_mobilenet, ways=(LONE, SHARED))
    assert load.run(60).way == SHARED
    assert load.tuner.is_sustained
    load.tuner.set_ways([LONE, SHARED, NARROW])
    assert load.tuner.setting.way == NARROW
    assert load.run(10).way == NARROW
    load.tuner.set_ways([LONE, SHARED])
    load.rate = lambda setting: 50 if setting.way == NARROW else like_mobilenet(setting)
    load.tuner.set_ways([LONE, SHARED, NARROW])
    assert load.run(60).way == SHARED


def test_a_way_that_was_beaten_has_to_win_before_it_is_used_again() -> None:
    load = Load(lambda setting: 50 if setting.way == NARROW else like_mobilenet(setting))
    assert load.run(60).way == SHARED
    load.tuner.set_ways([LONE, SHARED])
    load.tuner.set_ways([LONE, SHARED, NARROW])
    assert load.tuner.setting.way == SHARED


def test_a_way_that_was_chosen_is_used_again_without_a_trial() -> None:
    load = Load(like_mobilenet)
    load.run(30)
    load.tuner.set_ways([LONE, SHARED])
    assert load.tuner.setting.way == SHARED
    load.tuner.rest()
    assert not load.tuner.is_sustained
    load.run(SUSTAINED_NS / 1e9 / 2)
    assert load.tuner.is_sustained, "the model is to be copied again soon"
    load.tuner.set_ways([LONE, SHARED, NARROW])
    assert load.tuner.setting.way == NARROW


def test_a_short_burst_is_not_worth_a_copy() -> None:
    load = Load(like_mobilenet, ways=(LONE, SHARED))
    load.run(SUSTAINED_NS / 1e9 / 2)
    assert not load.tuner.is_sustained


def test_the_rests_between_trials_grow() -> None:
    load = Load(all_equal)
    load.run(20 * FIRST_REST_NS / 1e9)
    half = len(load.used) // 2
    early, late = (sum(each.way != NARROW for each in part) for part in (load.used[:half], load.used[half:]))
    assert late < early


def test_with_one_way_only_the_batch_size_is_tuned() -> None:
    def small_is_best(setting: Setting) -> float:
        return 100 / (1 + setting.max_batch / 64)

    chosen = Load(small_is_best, ways=(LONE,)).run(120)
    assert chosen.way == LONE
    assert chosen.max_batch <= 8
