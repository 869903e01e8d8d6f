"""How much time is left: the stages of a run, what each is expected to take, and what this machine took earlier.

Work is counted in seconds of the processor, which hardly depend on what else the machine does. What a stage takes is
learnt from earlier runs, by its name, and for stages that are new here from those of this run. How much longer it takes
than on a quiet machine follows from the processor time that this process has been getting in the last half minute, or
minutes of a long run. Stages that may not come, such as the training of a candidate that may lose, count by how often
they came.
"""

from __future__ import annotations

import json
import math
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tfserve.training.atomic_files import written_aside
from tfserve.training.progress import COMPLETE, Reporter

FIRST, LAST = 1.0, 98.0
"""Progress at the beginning of the first stage and at the end of the last."""
SPEED = "speed"
BUSY = "share of the expected cores"
"""For stages that never ran here: on a machine that is always busy, the known stages are expected to get few cores."""
SLOWLY = 0.8
"""What is kept of the cores falls to this share in a run at most: others may have been busy for once."""
PRIOR_S = 10.0
"""What is known of the machine from earlier runs counts as much as this many seconds of this run."""
OWN_PACE_FROM = 0.1
"""From this share on, a stage's own pace says when it will end."""
CORES = 1.5
"""That a stage keeps busy unless more is known of it."""
HALF_LIFE_S, LONGEST_HALF_LIFE_S, LOOK_BACK = 20.0, 300.0, 0.25
"""In the estimate of how busy the machine is: a run looks back over a share of the time that it has taken, because what
is to come depends on the load of minutes, not of seconds."""
QUIET_PRIOR_S = 2.0
SLOWEST = 100.0
LEARNING = 0.5
"""Weight of the newest run in what is kept."""
SHORTEST_TO_LEARN_S = 0.2
NEVER = 0.01
TICK_S = 2.0
START = "start"


class Now(NamedTuple):
    """Seconds since some moment, and seconds that the processor has worked for this process."""

    wall: float
    processor: float

    @classmethod
    def read(cls) -> Now:
        return cls(time.monotonic(), time.process_time())


@dataclass
class _Expected:
    """`seconds` are those of a quiet ordinary machine on which the stage keeps `cores` busy; `chance` is how likely the
    stage is. `key` is the name under which it is learnt; `fixed` stages come at the end of every run. `work` is what it
    took of the processor in the end, when a `share` of it was done; it `was_cut` if the budget did not allow more.
    Stages that begin without having been expected show nothing about the speed of the machine."""

    seconds: float
    cores: float
    key: str
    chance: float = 1.0
    fixed: bool = False
    is_uncertain: bool = False
    work: float | None = None
    took: float | None = None
    share: float = 1.0
    was_cut: bool = False
    is_expected: bool = True


class TimedStage:
    """A running stage."""

    def __init__(self, clock: Clock, name: str) -> None:
        self._clock, self.name = clock, name
        self.began = clock.now()
        self.share = 0.0
        self._first: tuple[float, float] | None = None

    @property
    def is_over(self) -> bool:
        """Whether a training has to end now to keep within the budget."""
        return self._clock.is_over

    @property
    def ends_early(self) -> bool:
        """Whether the run is to deliver its best model soon."""
        return self._clock.ends_early()

    def mention(self, share: float, message: str) -> None:
        """Reports the share that is done, unless something was reported just now."""
        self._at(share)
        self._clock.reporter.mention(self._clock.progress(), message, self._clock.time_left())

    def report(self, share: float, message: str, *, metrics: dict[str, Any] | None = None) -> None:
        self._at(share)
        self._clock.reporter.report(self._clock.progress(), message, eta_s=self._clock.time_left(), metrics=metrics)

    def remaining(self, expected: float) -> float:
        """Processor seconds, by the pace of this stage once it has one, without its first step, which builds
        everything."""
        done = self._clock.now().processor - self.began.processor
        guess = max(expected - done, expected * (1 - self.share) * 0.3)
        if self._first is None or self.share - self._first[0] < OWN_PACE_FROM:
            return guess
        share, work = self._first
        return (self._clock.now().processor - work) / (self.share - share) * (1 - self.share)

    def _at(self, share: float) -> None:
        self._clock.observe()
        self.share = min(max(self.share, share), 1.0)
        if self._first is None and share > 0:
            self._first = self.share, self._clock.now().processor


class Clock:
    """Progress and time left, from the stages that are expected. `budget_s` is the time for the whole run, if given."""

    def __init__(self, reporter: Reporter, file: Path | None = None, now: Callable[[], Now] = Now.read) -> None:
        self.reporter = reporter
        self.now = now
        self.began = now()
        self.budget_s: float | None = None
        #: whether a person wants the best model so far
        self.ends_early: Callable[[], bool] = lambda: False
        #: how many images there are, roughly: what is likely depends on it
        self.about = ""
        #: whether the stages of this run took what they usually take
        self.learns = True
        self._file = file
        self._kept = _read(file)
        self._stages: dict[str, _Expected] = {}
        self._dropped: dict[str, float] = {}
        self._whole: _Expected | None = None
        #: whether more than the start is expected; stages that just began don't count
        self._is_planned = False
        self._limit = math.inf
        self._current: TimedStage | None = None
        self._seen = self.began
        self._wall, self._quiet = QUIET_PRIOR_S, QUIET_PRIOR_S

    # --- the machine

    @property
    def speed(self) -> float:
        """Processor seconds that this machine takes for one of an ordinary machine."""
        done = [each for each in self._stages.values() if each.work is not None and each.is_expected]
        work = sum(each.work or 0.0 for each in done)
        expected = sum(each.seconds * each.cores * each.share for each in done)
        return (self._kept.get(SPEED, 1.0) * PRIOR_S + work) / (PRIOR_S + expected)

    @property
    def slowdown(self) -> float:
        """How many times longer everything takes than it would if nothing else ran on this machine."""
        return min(max(self._wall / max(self._quiet, 1e-3), 1.0), SLOWEST)

    def observe(self) -> None:
        """Notes how much of the processor this process got since the last time."""
        now, cores, current = self.now(), CORES, self._current
        if current is not None:
            cores = self._cores(current.name)
        wall, work = now.wall - self._seen.wall, now.processor - self._seen.processor
        if wall > 0.2:
            fade = 0.5 ** (wall / self._half_life_s)
            self._wall, self._quiet = self._wall * fade + wall, self._quiet * fade + work / cores
            self._seen = now

    @property
    def _half_life_s(self) -> float:
        return min(max(HALF_LIFE_S, LOOK_BACK * (self.now().wall - self.began.wall)), LONGEST_HALF_LIFE_S)

    # --- stages

    def expect(
        self, name: str, seconds: float, *, key: str | None = None, cores: float = CORES, chance: float = 1.0,
        fixed: bool = False,
    ) -> None:  # fmt: skip
        """Adds a stage, or replaces what was expected of it. It takes `seconds` on a quiet ordinary machine.

        `key` is what it is learnt under, if its name says too little; others are learnt under their names.
        """
        self._is_planned = self._is_planned or name != START
        if name not in self._stages or self._stages[name].took is None:
            likely = self._kept.get(self._chance_key(name), chance) if chance < 1 else 1.0
            self._stages[name] = _Expected(seconds, cores, key or _kind(name), likely, fixed, chance < 1)

    def expect_whole(self, seconds: float, about: str) -> None:
        """What all stages that are not known yet take together; it counts until the first of them is expected."""
        self.about, self._whole = about, _Expected(seconds, CORES, f"whole run, {about}")

    def drop(self, name: str) -> None:
        """The stage will not come, or is done already."""
        if name in self._stages and self._stages[name].took is None:
            gone = self._stages.pop(name)
            if gone.is_uncertain:
                self._dropped[name] = gone.chance

    def settle(self, name: str) -> None:
        """The stage will come, as far as is known by now."""
        if name in self._stages:
            self._stages[name].chance = 1.0

    @contextmanager
    def stage(self, name: str, message: str = "") -> Iterator[TimedStage]:
        """Measures a stage and reports its beginning: with the message, otherwise with its name."""
        expected = self._stages.setdefault(name, _Expected(1.0, CORES, _kind(name), is_expected=False))
        expected.chance = 1.0
        self.observe()
        before, stage = self._current, TimedStage(self, name)
        self._current = stage
        self.reporter.report(self.progress(), message or name[:1].upper() + name[1:], eta_s=self.time_left())
        try:
            yield stage
            self.observe()
            now = self.now()
            expected.took, expected.work = now.wall - stage.began.wall, now.processor - stage.began.processor
            expected.share, expected.was_cut = stage.share or 1.0, self.is_over
            self.learns = self.learns and not self.ends_early()
        finally:
            self._current = before

    # --- what is reported

    def progress(self) -> float:
        stages, current = self._stages.items(), self._current
        done = sum(self._work(name) for name, each in stages if each.took is not None)
        if current is not None:
            done += current.share * self._work(current.name)
        total = max(sum(self._work(name) * each.chance for name, each in stages), self._unplanned())
        return min(FIRST + (LAST - FIRST) * done / max(total, 1e-9), COMPLETE)

    def time_left(self) -> float:
        """Seconds."""
        left = sum(self.quiet_s(name) * each.chance for name, each in self._stages.items() if each.took is None)
        if whole := self._unplanned():
            done = sum(each.work or 0.0 for name, each in self._stages.items() if name != START)
            left += max(whole - done, 0.0) / CORES
        fixed = sum(self.quiet_s(name) for name in self._fixed())
        return min(left * self.slowdown, max(self.budget_left_s, fixed * self.slowdown))

    def quiet_s(self, name: str) -> float:
        """Seconds that a stage will still take if nothing else runs on this machine."""
        work, current = self._work(name), self._current
        if current is not None and current.name == name:
            work = current.remaining(work)
        return work / self._cores(name)

    @property
    def budget_left_s(self) -> float:
        """Seconds until the budget is used up; infinite without one."""
        return math.inf if self.budget_s is None else self.budget_s - (self.now().wall - self.began.wall)

    @property
    def spare_s(self) -> float:
        """Seconds of a quiet machine that the budget leaves for what is not fixed; infinite without a budget."""
        return self.budget_left_s / self.slowdown - sum(map(self.quiet_s, self._fixed()))

    @contextmanager
    def limited(self, share: float) -> Iterator[None]:
        """What is trained meanwhile takes at most this share of what the budget leaves (see `is_over`)."""
        self._limit = self.now().wall + max(0.0, self.spare_s * self.slowdown * share)
        try:
            yield
        finally:
            self._limit = math.inf

    @property
    def is_over(self) -> bool:
        """Whether a training has to end now to keep within the budget."""
        return self.now().wall > self._limit

    @contextmanager
    def ticking(self) -> Iterator[None]:
        """Reports the time left every few seconds, also while nothing else is reported."""
        stop = threading.Event()

        def tick() -> None:
            while not stop.wait(TICK_S):
                with suppress(RuntimeError, KeyError):  # a stage was added or dropped meanwhile
                    self.observe()
                    self.reporter.repeat(TICK_S, self.progress(), self.time_left())

        thread = threading.Thread(target=tick, daemon=True, name="time left")
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def report(self) -> list[dict[str, Any]]:
        """What each stage took, in seconds."""
        return [
            {"stage": name, "seconds": round(each.took, 2), "processor_s": round(each.work or 0.0, 2)}
            for name, each in self._stages.items()
            if each.took is not None
        ]

    def keep(self) -> None:
        """Writes what was learnt for the next runs. A disk that is full prevents nothing else."""
        if self._file is None or not self.learns:
            return
        kept = _read(self._file)
        for key, value in self._learnt():
            kept[key] = value if key not in kept else kept[key] * (1 - LEARNING) + value * LEARNING
        with suppress(OSError), written_aside(self._file) as aside:
            aside.write_text(json.dumps(kept | {SPEED: self.speed}))

    # --- parts

    def _fixed(self) -> list[str]:
        """The fixed stages that are still to come."""
        return [name for name, each in self._stages.items() if each.fixed and each.took is None]

    def _work(self, name: str) -> float:
        """Processor seconds."""
        return self._work_of(self._stages[name])

    def _unplanned(self) -> float:
        """Processor seconds of the whole run until its stages are known, then 0."""
        return 0.0 if self._whole is None or self._is_planned else self._work_of(self._whole)

    def _work_of(self, each: _Expected) -> float:
        return each.seconds * each.cores * self._kept.get(each.key, self.speed)

    def _cores(self, name: str) -> float:
        each = self._stages[name]
        return max(0.2, self._kept.get(f"cores, {each.key}", each.cores * self._kept.get(BUSY, 1.0)))

    def _learnt(self) -> Iterator[tuple[str, float]]:
        for name, each in self._stages.items():
            if each.work is None or each.took is None or each.took < SHORTEST_TO_LEARN_S or each.was_cut:
                continue
            yield each.key, each.work / (each.seconds * each.cores)
            yield f"cores, {each.key}", max(each.work / each.took, self._cores(name) * SLOWLY)
        ran = [each for each in self._stages.values() if each.work and each.took and each.is_expected]
        if could := sum(each.cores * (each.took or 0.0) for each in ran):
            share = sum(each.work or 0.0 for each in ran) / could
            yield BUSY, min(max(share, self._kept.get(BUSY, 1.0) * SLOWLY), 1.0)
        if (whole := self._whole) is not None:
            work = sum(each.work or 0.0 for name, each in self._stages.items() if name != START)
            yield whole.key, work / (whole.seconds * whole.cores)
        for name, each in self._stages.items():
            if each.is_uncertain:
                yield self._chance_key(name), 1.0
        for name, chance in self._dropped.items():
            known = self._chance_key(name) in self._kept
            yield self._chance_key(name), NEVER if known else chance / 2

    def _chance_key(self, name: str) -> str:
        return f"chance, {name}, {self.about}"


def _kind(name: str) -> str:
    """The name of a stage without its numbers: what all folds of a candidate have in common."""
    return re.sub(r"\W*(\d+|all images|fold)\W*", " ", name).strip()


def _read(file: Path | None) -> dict[str, float]:
    try:
        content = json.loads(file.read_text()) if file is not None else {}
        return {str(key): float(value) for key, value in content.items() if 0 < float(value) < 1e5}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
