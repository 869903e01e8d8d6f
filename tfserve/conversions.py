"""What was found out about a model and the runtimes that it was converted for, and where that is kept.

    <data>/conversions/<key>/report.json        the Report
    <data>/conversions/<key>/<runtime>/…        the converted model, if it was chosen
    <data>/conversions/<key>.aside.<pid>.<n>/   the work folder of a conversion under way

The key says what the model's bytes are, what computes them, and on which processor; so a folder never changes. Where
one runtime was asked for, `-<runtime>` follows the key.
"""

from __future__ import annotations

import itertools
import math
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec

TENSORFLOW = "tensorflow"

CANDIDATES: dict[str, tuple[str, ...]] = {
    "float32": ("openvino", "litert", "onnxruntime"),
    "bf16": ("openvino",),
    "int8": ("litert",),
}
"""What is tried beside TensorFlow for each precision, the quickest to convert first."""

NEED_TENSORFLOW = frozenset({TENSORFLOW, "litert", "onnxruntime"})
"""Whose conversion works with TensorFlow, so that a warm worker saves its import."""

CLEARLY_FASTER = 0.95
"""A converted model must take at most so much of TensorFlow's time, else it is not worth a difference."""

NOT_COMPARED = "not compared with TensorFlow, which is not installed here"

ENOUGH_SAMPLES = 8
"""Distinct requests needed to compare what synthetic inputs can't: text, and sizes that a signature leaves open."""

Number = int | float

_REPORT = "report.json"
_numbers = itertools.count()


class Guard(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which requests a converted model computes; all others are TensorFlow's.

    `ranges` has the lowest and the highest number of an input for which both were seen to agree; NaN is in no range. A
    tensor without elements is TensorFlow's, too. With `normal_only` so are denormals and negative zeros, with
    `ascii_only` texts that are empty or not plain ASCII.
    """

    ranges: dict[str, tuple[Number, Number]] = {}
    normal_only: bool = False
    ascii_only: bool = False

    def __str__(self) -> str:
        parts = [f"{name!r} from {low:g} to {high:g}" for name, (low, high) in self.ranges.items()]
        parts += ["no denormals"] * self.normal_only + ["plain ASCII"] * self.ascii_only
        return ", ".join(parts)


class Trial(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One runtime, tried on this machine. When not `ok`, `reason` says why, for people.

    Differences are the largest ones to TensorFlow's outputs, `same_classes` is the share of rows whose highest output
    is the same. `other_classes` is the largest share of an example's positions (pixels of a mask) with another class,
    all of them close decisions. `p50_s` is the median time of a single example. `best_s` has the shortest time for each
    number of examples that was tried, `cpu_s` the least time of all cores together. `path` is the converted model,
    relative to the work folder. `compared` is the number of inputs that were compared. `guard` says which requests it
    computes. With `needs_samples` nothing could be compared before real requests have been seen.
    """

    runtime: str
    ok: bool
    reason: str = ""
    path: str = ""
    compared: int = 0
    max_abs_diff: float | None = None
    max_rel_diff: float | None = None
    same_classes: float | None = None
    other_classes: float = 0.0
    convert_s: float | None = None
    p50_s: float | None = None
    best_s: dict[str, float] = {}
    cpu_s: dict[str, float] = {}
    size_bytes: int | None = None
    guard: Guard | None = None
    needs_samples: bool = False

    @property
    def cost_s(self) -> float:
        """What runtimes are compared by; infinite when it was not timed.

        The mean of the time that a caller waits and of what many callers have to share, over the numbers of examples.
        Of the shortest times, since other work on the machine only adds to them.
        """
        times = [*self.best_s.values(), *self.cpu_s.values()]
        return math.exp(sum(map(math.log, times)) / len(times)) if times and min(times) > 0 else math.inf


class Report(msgspec.Struct, kw_only=True, omit_defaults=True):
    """All trials of a model, and what they led to. `path` is the chosen model's, empty for TensorFlow."""

    chosen: str
    precision: str
    trials: list[Trial]
    path: str = ""

    @property
    def compared(self) -> bool:
        """Whether anything was compared with TensorFlow. A report of nothing is never kept."""
        return any(trial.compared for trial in self.trials)

    @property
    def needs_samples(self) -> bool:
        """Whether real requests may show more."""
        return not self.compared and any(trial.needs_samples for trial in self.trials)

    @property
    def guard(self) -> Guard | None:
        """The guard of what was chosen; None for TensorFlow."""
        return next((trial.guard for trial in self.trials if trial.runtime == self.chosen), None)

    def reason(self, runtime: str) -> str:
        """Why a runtime is not to be used, or was not compared."""
        found = [trial.reason for trial in self.trials if trial.runtime == runtime and trial.reason]
        return found[0] if found else "it was not tried"


def choose(trials: Sequence[Trial], *, asked: str = "auto") -> Trial | None:
    """The trial that is to serve: what was asked for if it agrees, else the fastest if clearly faster than TensorFlow.

    None when nothing is ok, not even TensorFlow.
    """
    reference = next((each for each in trials if each.runtime == TENSORFLOW and each.ok), None)
    others = [each for each in trials if each.ok and each.runtime != TENSORFLOW and asked in ("auto", each.runtime)]
    if asked == TENSORFLOW or not others:
        return reference
    fastest = min(others, key=lambda each: each.cost_s)
    if reference is None or asked != "auto":
        return fastest
    return fastest if fastest.cost_s <= CLEARLY_FASTER * reference.cost_s else reference


class Conversions:
    """The folder of all that was converted. Nothing in it is needed: what is missing is converted again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, key: str, *, asked: str = "auto") -> Report | None:
        """What is known of a model; None when that is nothing, or damaged, or its files are gone."""
        try:
            report = msgspec.json.decode((self._place(key, asked) / _REPORT).read_bytes(), type=Report)
        except (OSError, msgspec.DecodeError):
            return None
        return report if report.compared and (not report.path or Path(report.path).exists()) else None

    def begin(self, key: str) -> Path:
        """A new work folder."""
        folder = self._folder / f"{key}.aside.{os.getpid()}.{next(_numbers)}"
        folder.mkdir(parents=True)
        return folder

    def end(self, key: str, work: Path, trials: Sequence[Trial], *, precision: str, asked: str = "auto") -> Report:
        """Keeps what was chosen, forgets the rest of the work folder, and records it. Raises `OSError`.

        Where nothing was compared there is nothing to record: the next deployment tries again.
        """
        chosen = choose(trials, asked=asked)
        final = self._place(key, asked)
        path = str(final / chosen.path) if chosen is not None and chosen.path else ""
        report = Report(
            chosen=TENSORFLOW if chosen is None else chosen.runtime, precision=precision, trials=list(trials), path=path
        )
        if not report.compared and not path:
            self.abandon(work)
            return report
        _keep_only(work, chosen.path if chosen is not None else "")
        if report.compared:
            _write(work / _REPORT, msgspec.json.format(msgspec.json.encode(report)))
        _replace(work, final)
        return report

    def abandon(self, work: Path) -> None:
        """Forgets a conversion that was given up."""
        shutil.rmtree(work, ignore_errors=True)

    def _place(self, key: str, asked: str) -> Path:
        """One for each question: a model that serves may be loaded again from there."""
        return self._folder / (key if asked == "auto" else f"{key}-{asked}")

    def clear_aside(self) -> None:
        """Removes what servers that were killed have left. Call it before the first `begin`."""
        for folder in self._folder.glob("*.aside.*"):
            shutil.rmtree(folder, ignore_errors=True)


def _keep_only(work: Path, path: str) -> None:
    kept = Path(path).parts[:1]
    for child in list(work.iterdir()):
        if (child.name,) != kept:
            shutil.rmtree(child) if child.is_dir() else child.unlink()


def _write(file: Path, content: bytes) -> None:
    with file.open("wb") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())


def _replace(work: Path, final: Path) -> None:
    """A folder that is there already is damaged, else it would have been found: it goes first."""
    if final.exists():
        shutil.rmtree(final)
    work.rename(final)
