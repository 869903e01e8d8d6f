"""Decides how many computations of a model run at once, with how many threads each, and up to which batch size.

No formula predicts this: it depends on the network, the runtime, the processor and its other load. So alternatives are
tried on real requests while the model is at load. An alternative is measured in turns with the setting in use, so that
a change of the load affects both, and must win clearly several times.

They are compared by the rows that they finish per second of the cores, without the time in which these worked for other
processes: what the model's own process used, and what it left unused. Rows per second by the clock would vary with the
other load of the machine.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

CLEARLY = 1.04
"""An alternative must finish this many times as many rows in the same time of the cores."""
HOPELESS = 0.8
"""An alternative below this share is given up after a single window."""
WINS, LOSSES = 3, 2
"""An alternative has to win as many windows before it loses as many: noise should rarely win."""
STRONGLY = 1.2
"""A window that is won by at least this ratio counts twice."""

WINDOWS = ((500_000_000, 4), (1_000_000_000, 2))
"""A window is complete after one of these times, with this number of computations for each of those at once."""
MAX_BUSY_GAP = 0.5
"""The largest share of a window in which nothing was computed: beyond it, the model is not at load."""
MIN_CROWDED = 0.7
"""The smallest share of computations that began while other requests were there."""

SUSTAINED_NS = 300_000_000
"""After this time at load it is worth copying the model for single threads."""
SLOW_ROW_NS = 2_000_000
"""A row that takes longer fills the cores by itself: a large batch of such rows only lets the others wait."""
FEW_ROWS = 8
"""The batch size at which trials begin for slow rows."""
FIRST_REST_NS, LONGEST_REST_NS = 20_000_000_000, 600_000_000_000
"""Between two rounds of trials: doubled after each, until the load changes."""
RECENT = 5
CHANGED = 1.3
"""Rates or queues that differ this many times from those of the last round begin the next one early."""


@dataclass(frozen=True)
class Way:
    """How many computations run at once, and how many threads each of them may use.

    With more `threads` than its share of the cores, the computations share one pool of threads.
    """

    computations: int
    threads: int


@dataclass(frozen=True)
class Setting:
    """What a model does at load. A request that is alone is always computed with all threads."""

    way: Way
    max_batch: int


@dataclass(frozen=True)
class Finished:
    """One computation. `others` are the requests that were there when it began, `rows_there` the rows of all."""

    rows: int
    took_ns: int
    others: int
    rows_there: int


CoreTime = Callable[[], int]
"""The nanoseconds that the cores, added up, have not worked for other processes so far."""


class _Window:
    """The computations between two ends of one. The first ones are not counted: they began before the window."""

    def __init__(self, computations: int, core_time: CoreTime) -> None:
        self._computations = computations
        self._core_time = core_time
        self._skip = computations
        self._began_ns = self._span_ns = self._core_ns = 0
        self._count = self._rows = self._took_ns = self._crowded = self._there = 0

    def add(self, now_ns: int, finished: Finished) -> None:
        if self._skip:
            self._skip, self._began_ns = self._skip - 1, now_ns
            if not self._skip:
                self._core_ns = self._core_time()
            return
        self._count += 1
        self._rows += finished.rows
        self._took_ns += finished.took_ns
        self._crowded += finished.others > 0
        self._there += finished.rows_there
        self._span_ns = max(1, now_ns - self._began_ns)

    @property
    def is_complete(self) -> bool:
        return any(self._count >= count * self._computations and self._span_ns >= span_ns for span_ns, count in WINDOWS)

    @property
    def is_at_load(self) -> bool:
        if not self._count:
            return False
        busy = self._took_ns / self._span_ns
        return busy >= 1 - MAX_BUSY_GAP and self._crowded >= MIN_CROWDED * self._count

    @property
    def rate(self) -> float:
        """Rows per second of the cores."""
        return self._rows / max(1, self._core_time() - self._core_ns) * 1e9

    @property
    def rows_there(self) -> float:
        return self._there / self._count

    @property
    def span_ns(self) -> int:
        return self._span_ns


@dataclass
class _Trial:
    """Compares `candidate` with the setting in use, in turns."""

    candidate: Setting
    usual: float = 0.0
    won: int = 0
    lost: int = 0

    def add(self, rate: float) -> bool | None:
        """Whether the candidate is better; None while that is open."""
        ratio = rate / self.usual
        self.usual = 0.0
        if ratio >= CLEARLY:
            self.won += 2 if ratio >= STRONGLY else 1
        else:
            self.lost += 1
        if ratio < HOPELESS or self.lost >= LOSSES:
            return False
        return True if self.won >= WINS else None


class Tuner:
    """Chooses the setting of a model. `ways` are those that it can be computed in, the most promising last.

    It begins with that one: it pays off for most networks, and is given up for one that proves better.

    Not thread-safe: it belongs to the event loop.
    """

    def __init__(self, ways: Sequence[Way], max_batch: int, core_time: CoreTime) -> None:
        self._ways = list(ways)
        self._max_batch = max_batch
        self._core_time = core_time
        #: chosen, though its way may be unavailable for a while
        self._best = Setting(self._ways[-1], max_batch)
        #: were given up for a better one
        self._beaten: set[Way] = set()
        self._trial: _Trial | None = None
        self._left: Iterator[Setting] | None = None
        self._tried: set[Setting] = set()
        self._window = _Window(self._best.way.computations, core_time)
        self._at_load_ns = 0
        self._knows_rows = False
        self._rest_ns, self._rested_ns = 0, 0
        self._rates: deque[float] = deque(maxlen=RECENT)
        self._rate, self._rows_there = 0.0, 0.0

    @property
    def setting(self) -> Setting:
        """What to do now: the choice, or the alternative that is being measured."""
        trial = self._trial
        return trial.candidate if trial is not None and trial.usual else self.chosen

    @property
    def chosen(self) -> Setting:
        if self._best.way in self._ways:
            return self._best
        return replace(self._best, way=self._nearest(self._best.way))

    @property
    def is_sustained(self) -> bool:
        """Whether the load has lasted, so that it is worth preparing further ways."""
        lasted_ns = self._at_load_ns + (self._window.span_ns if self._window.is_at_load else 0)
        return lasted_ns >= SUSTAINED_NS or (lasted_ns > 0 and self._best.way not in self._ways)

    def set_ways(self, ways: Sequence[Way]) -> None:
        """Changes what is available. A new way is used at once, unless a better one is known, and compared soon."""
        new = [way for way in ways if way not in self._ways]
        self._ways = list(ways)
        if new and new[-1] not in {*self._beaten, self._best.way}:
            self._best = Setting(new[-1], self._best.max_batch)
            self._rest_ns = 0
        self._end_round()

    def rest(self) -> None:
        """The model has been idle, so nothing is known of its load."""
        self._at_load_ns = 0
        self._begin_window()

    def add(self, now_ns: int, finished: Finished) -> bool:
        """Notes a computation; returns whether the choice has changed."""
        before = self.chosen
        if not self._knows_rows:
            self._begin_with(finished.took_ns // max(1, finished.rows))
        self._window.add(now_ns, finished)
        if not self._window.is_complete:
            return self.chosen != before
        window = self._window
        if window.is_at_load:
            self._at_load_ns += window.span_ns
            self._measured(window)
        else:
            self._end_round()
            self._at_load_ns = max(0, self._at_load_ns - window.span_ns)
        self._begin_window()
        return self.chosen != before

    # --- inside

    def _begin_with(self, row_ns: int) -> None:
        self._knows_rows = True
        if row_ns >= SLOW_ROW_NS:
            self._best = replace(self._best, max_batch=min(self._best.max_batch, FEW_ROWS))

    def _measured(self, window: _Window) -> None:
        trial, rate = self._trial, window.rate
        if trial is None:
            self._rates.append(rate)
            self._rested_ns += window.span_ns
            if self._is_due(window):
                self._begin_round(rate, window.rows_there)
        elif not trial.usual:
            trial.usual = rate
        else:
            self._judge(trial.add(rate), rate, window.rows_there)

    def _is_due(self, window: _Window) -> bool:
        if self._rested_ns >= self._rest_ns:
            return True
        if self._rested_ns < FIRST_REST_NS or len(self._rates) < RECENT:
            return False
        rate = statistics.median(self._rates)
        has_changed = _differ(rate, self._rate) or _differ(window.rows_there, self._rows_there)
        self._rest_ns = 0 if has_changed else self._rest_ns
        return has_changed

    def _begin_round(self, rate: float, rows_there: float) -> None:
        self._rate, self._rows_there = rate, rows_there
        self._tried = {self.chosen}
        self._left = self._alternatives()
        self._next_trial()

    def _judge(self, is_better: bool | None, rate: float, rows_there: float) -> None:
        if is_better is None:
            return
        assert self._trial is not None
        if is_better:
            if self._trial.candidate.way != self._best.way:
                self._beaten = {*self._beaten, self._best.way} - {self._trial.candidate.way}
            self._best = self._trial.candidate
            self._rate, self._rows_there = rate, rows_there
            self._left = self._alternatives()
        self._next_trial()

    def _next_trial(self) -> None:
        for candidate in self._left or ():
            if candidate not in self._tried:
                self._tried.add(candidate)
                self._trial = _Trial(candidate)
                return
        self._rest_ns = min(2 * self._rest_ns or FIRST_REST_NS, LONGEST_REST_NS)
        self._end_round()

    def _end_round(self) -> None:
        self._trial = self._left = None
        self._rested_ns = 0
        self._rates.clear()
        self._begin_window()

    def _begin_window(self) -> None:
        # Those that run now count as of the former setting.
        most = max(way.computations for way in (self.setting.way, self.chosen.way))
        self._window = _Window(most, self._core_time)

    def _alternatives(self) -> Iterator[Setting]:
        """Other ways first, then other batch sizes; none that the requests that are there could not fill."""
        best = self.chosen
        for way in reversed(self._ways):  # the newest first
            if way != best.way:
                yield Setting(way, min(best.max_batch, self._fillable(way)))
        size = min(best.max_batch, self._fillable(best.way))
        for other in (size // 2, size // 4, size * 2):
            if 1 <= other <= self._max_batch and other < 2 * self._fillable(best.way):
                yield Setting(best.way, other)

    def _fillable(self, way: Way) -> int:
        """The smallest power of two that would take all rows that are there."""
        rows = max(1.0, self._rows_there / way.computations)
        return min(self._max_batch, 1 << int(rows - 1e-6).bit_length() if rows > 1 else 1)

    def _nearest(self, way: Way) -> Way:
        return next((each for each in self._ways if each.computations == way.computations), self._ways[-1])


def _differ(one: float, other: float) -> bool:
    return max(one, other) > CHANGED * min(one, other)
