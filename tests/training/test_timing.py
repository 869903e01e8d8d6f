"""The time left: what stages take on this machine, how busy it is, and what a budget leaves."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tfserve.ipc.messages import Progress
from tfserve.training.fit.timing import START, Clock, Now
from tfserve.training.progress import Reporter


class Time:
    """Passes when it is asked to: `cores` of the processor are busy for this process."""

    def __init__(self) -> None:
        self.now = Now(100.0, 5.0)

    def passes(self, seconds: float, cores: float = 1.5) -> None:
        self.now = Now(self.now.wall + seconds, self.now.processor + seconds * cores)


class Timed(Clock):
    def __init__(self, file: Path | None = None) -> None:
        self.time, self.told = Time(), list[Progress]()
        super().__init__(Reporter(1, self.told.append), file, now=lambda: self.time.now)

    def works(self, name: str, seconds: float, cores: float = 1.5, *, steps: int = 10) -> None:
        """A stage that says ten times how far it is."""
        with self.stage(name) as stage:
            for step in range(steps):
                self.time.passes(seconds / steps, cores)
                stage.report((step + 1) / steps, "works")


def test_the_time_left_is_that_of_the_stages_to_come() -> None:
    clock = Timed()
    clock.expect("read", 10)
    clock.expect("train", 90)
    assert clock.time_left() == pytest.approx(100)
    clock.works("read", 10)
    assert clock.time_left() == pytest.approx(90, rel=0.05)
    with clock.stage("train") as stage:
        clock.time.passes(45)
        stage.report(0.1, "one")
        clock.time.passes(9)
        stage.report(0.3, "two")
        assert clock.time_left() == pytest.approx(9 / 0.2 * 0.7, rel=0.05), "by its own pace, without its first step"
    clock.drop("train")
    assert clock.time_left() == 0
    assert clock.progress() == pytest.approx(98)


def test_each_stage_reports_its_beginning() -> None:
    """Preparing a training may take minutes on a busy machine, before its first step has something to report."""
    clock = Timed()
    with clock.stage("read", "Reading 50 masks"):
        clock.time.passes(5)
    with clock.stage("decoder: fold 1"):
        clock.time.passes(60)
    assert [each.message for each in clock.told] == ["Reading 50 masks", "Decoder: fold 1"]


def test_a_busy_machine_takes_longer_for_everything() -> None:
    clock = Timed()
    clock.expect("train", 100)
    clock.expect("exports", 40, cores=1.0)
    with clock.stage("train") as stage:
        for share in range(1, 21):
            clock.time.passes(8, cores=0.375)  # a quarter of what it can use
            stage.report(share / 50, "works")
        assert clock.slowdown == pytest.approx(4, rel=0.15)
        assert clock.time_left() == pytest.approx(4 * (60 + 40), rel=0.25)
        clock.time.passes(60)
        clock.observe()
        assert clock.slowdown < 1.4, "it is quiet again"


def test_what_stages_take_here_is_learnt_whatever_else_ran(tmp_path: Path) -> None:
    file = tmp_path / "times.json"
    first = Timed(file)
    first.expect("exports", 40, cores=1.0)
    first.works("exports", 80, cores=0.25)  # 20 seconds of the processor, while other programs ran
    first.keep()
    second = Timed(file)
    second.expect("exports", 40, cores=1.0)
    assert second.time_left() == pytest.approx(20 / 0.8, rel=0.05)
    file.write_text("{half")
    third = Timed(file)
    third.expect("exports", 40, cores=1.0)
    assert third.time_left() == pytest.approx(40)


def test_on_a_machine_that_is_always_busy_new_stages_take_longer_too(tmp_path: Path) -> None:
    file = tmp_path / "times.json"
    _run_reads(file, 20, wall=90, cores=0.5)
    assert _time_left_of_something_new(file, wall=90, cores=0.5) == pytest.approx(180, rel=0.2)
    _run_reads(file, 8, wall=30, cores=1.5)  # it is quiet now
    assert _time_left_of_something_new(file, wall=30, cores=1.5) == pytest.approx(60, rel=0.2)


def _run_reads(file: Path, count: int, *, wall: float, cores: float) -> None:
    for _ in range(count):
        clock = Timed(file)
        clock.expect("read", 30)
        clock.works("read", wall, cores)
        clock.keep()


def _time_left_of_something_new(file: Path, *, wall: float, cores: float) -> float:
    """Expected to take 60 seconds on a quiet machine."""
    clock = Timed(file)
    clock.expect("read", 30)
    clock.expect("train", 60)
    clock.works("read", wall, cores)
    return clock.time_left()


def test_a_stage_that_never_came_counts_less_in_the_next_run(tmp_path: Path) -> None:
    file = tmp_path / "times.json"
    for expected in (50, 25, 12.5):
        clock = Timed(file)
        clock.expect_whole(10, "a few images")
        clock.expect("dear candidate: all images", 100, chance=0.5)
        assert clock.time_left() == pytest.approx(expected, rel=0.1)
        clock.drop("dear candidate: all images")
        clock.keep()
    other = Timed(file)
    other.expect_whole(10, "many images")
    other.expect("dear candidate: all images", 100, chance=0.5)
    assert other.time_left() == pytest.approx(50), "that a few images do not need it says nothing about many"


def test_before_the_stages_are_known_the_whole_run_counts_as_it_did_last_time(tmp_path: Path) -> None:
    file = tmp_path / "times.json"
    for expected in (7 + 60, 7 + 30):
        clock = Timed(file)
        clock.expect(START, 7, cores=1.0)
        clock.expect_whole(60, "a few images")
        with clock.stage(START):
            assert clock.time_left() == pytest.approx(expected, rel=0.05)
            clock.time.passes(7, cores=1.0)
        clock.expect("train", 20)
        clock.expect("exports", 10)
        assert clock.time_left() == pytest.approx(30, rel=0.1)
        clock.works("train", 20)
        clock.works("exports", 10)
        clock.keep()


def test_a_stage_that_begins_before_the_others_are_known_is_not_the_whole_run() -> None:
    """A detection reads its images first."""
    clock = Timed()
    clock.expect(START, 5)
    clock.works(START, 5)
    clock.expect_whole(300, "detection")
    with clock.stage("read images") as stage:
        clock.time.passes(10)
        stage.report(0.9, "reads")
        assert clock.progress() < 10
        assert clock.time_left() == pytest.approx(300, rel=0.1)
    clock.expect("training", 600)
    assert clock.time_left() == pytest.approx(600, rel=0.1)


def test_a_long_run_looks_further_back_than_a_short_one() -> None:
    """Half a minute of other programs does not make hours of a run that has taken an hour."""

    def left_after(seconds: float) -> float:
        clock = Timed()
        clock.expect("train", seconds)
        clock.expect("more", 3)
        clock.expect("exports", 1000)
        clock.works("train", seconds, steps=100)
        clock.works("more", 30, cores=0.15)
        return clock.time_left()

    assert left_after(3600) < 1500
    assert left_after(60) > 2000


def test_an_attempt_that_continues_from_checkpoints_teaches_nothing(tmp_path: Path) -> None:
    clock = Timed(tmp_path / "times.json")
    clock.learns = False
    clock.works("train", 1)
    clock.keep()
    assert not (tmp_path / "times.json").exists()


def test_a_run_that_a_person_ends_early_teaches_nothing(tmp_path: Path) -> None:
    clock = Timed(tmp_path / "times.json")
    clock.expect("train", 100)
    clock.ends_early = lambda: True
    clock.works("train", 20)
    clock.keep()
    assert not (tmp_path / "times.json").exists()


def test_a_budget_leaves_what_comes_after_the_fixed_stages_and_ends_a_training() -> None:
    clock = Timed()
    assert clock.spare_s == float("inf")
    clock.budget_s = 100
    clock.expect("exports", 30, cores=1.0, fixed=True)
    clock.expect("train", 500)
    assert clock.spare_s == pytest.approx(70)
    assert clock.time_left() == pytest.approx(100), "the training will be ended"
    with clock.limited(0.5), clock.stage("train") as stage:
        clock.time.passes(34)
        stage.report(34 / 500, "works")
        assert not stage.is_over
        clock.time.passes(2)
        assert stage.is_over
    assert not clock.is_over
    assert clock.spare_s == pytest.approx(34, rel=0.1)


def test_the_time_left_is_said_again_while_a_stage_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Progress] = []
    monkeypatch.setattr("tfserve.training.fit.timing.TICK_S", 0.05)
    clock = Clock(Reporter(1, told.append))
    clock.expect("exports", 40, cores=1.0)
    with clock.ticking(), clock.stage("exports", "exports"):
        deadline = time.monotonic() + 10
        while len(told) < 3 and time.monotonic() < deadline:
            sum(range(10000))
    assert {each.message for each in told} == {"exports"}
    assert len(told) >= 3
    assert all(each.eta_s is not None for each in told)
