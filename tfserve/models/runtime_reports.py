"""Conversion reports: how each runtime did with a model, and where the converted models are kept.

    <data>/conversions/<key>/report.json        the Report
    <data>/conversions/<key>/served.json        what its deployment looked like, once it was served
    <data>/conversions/<key>/<runtime>/…        the converted model, if it was chosen
    <data>/conversions/<key>.aside.<pid>.<n>/   the work folder of a running conversion

The key is a fingerprint of the model's bytes, the libraries and the processor, so the contents of a folder never
change. If one runtime was requested, `-<runtime>` follows the key.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

TENSORFLOW = "tensorflow"

CANDIDATES: dict[str, tuple[str, ...]] = {
    "float32": ("openvino", "litert", "onnxruntime"),
    "bf16": ("openvino",),
    "int8": ("litert",),
}
"""Runtimes to try in addition to TensorFlow for each precision, fastest conversion first."""

NEED_TENSORFLOW = frozenset({TENSORFLOW, "litert", "onnxruntime"})
"""Runtimes whose conversion imports TensorFlow, so that a warm worker saves time."""

CLEARLY_FASTER = 0.95
"""Maximum ratio of a converted model's time to TensorFlow's; above it, the gain is not worth numeric differences."""

NEAR_COST = 2.0
"""A busy machine may make a measurement this much longer."""

NOT_COMPARED = "not compared with TensorFlow, which is not installed here"

ENOUGH_SAMPLES = 8
"""Distinct requests needed to compare models that synthetic inputs can't cover: text inputs and variable sizes."""

Number = int | float
T = TypeVar("T")

_REPORT = "report.json"
_SERVED = "served.json"
_numbers = itertools.count()


class ConversionGuard(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which requests a converted model computes. TensorFlow computes all others.

    `ranges` has the lowest and highest value of an input for which both agreed; NaN is outside every range. TensorFlow
    also computes empty tensors; with `normal_only` denormals and negative zeros; with `ascii_only` strings that are
    empty or not plain ASCII. `why_mixed` is why an output may depend on several rows of a batch, if it may.
    """

    ranges: dict[str, tuple[Number, Number]] = {}
    normal_only: bool = False
    ascii_only: bool = False
    why_mixed: str = ""

    def __str__(self) -> str:
        parts = [_range(name, low, high) for name, (low, high) in self.ranges.items()]
        parts += ["no denormals"] * self.normal_only + ["plain ASCII"] * self.ascii_only
        return ", ".join(parts)


def _range(name: str, low: Number, high: Number) -> str:
    return f"{name!r} from {low:g} to {high:g}" if low <= high else f"no values of {name!r}"


class RuntimeTrial(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The trial of one runtime on this machine. If not `ok`, `reason` is a readable explanation.

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
    guard: ConversionGuard | None = None
    needs_samples: bool = False

    @property
    def cost_s(self) -> float:
        """The score by which runtimes are ranked, lower is better; infinite if it was not timed.

        The mean of the time that a caller waits and of what many callers have to share, over the numbers of examples.
        Of the shortest times, since other work on the machine only adds to them.
        """
        times = [*self.best_s.values(), *self.cpu_s.values()]
        return math.exp(sum(map(math.log, times)) / len(times)) if times and min(times) > 0 else math.inf


class Report(msgspec.Struct, kw_only=True, omit_defaults=True):
    """All trials of a model and the choice. `path` is that of the chosen model, empty for TensorFlow.

    `digest` is the SHA-256 of its files: a report whose files were damaged does not count.
    """

    chosen: str
    precision: str
    trials: list[RuntimeTrial]
    path: str = ""
    digest: str = ""

    @property
    def compared(self) -> bool:
        """Whether anything was compared with TensorFlow. Only then is the report kept."""
        return any(trial.compared for trial in self.trials)

    @property
    def needs_samples(self) -> bool:
        """Whether comparing real requests may still change the choice."""
        return not self.compared and any(trial.needs_samples for trial in self.trials)

    @property
    def guard(self) -> ConversionGuard | None:
        """The guard of the chosen runtime; None for TensorFlow."""
        return next((trial.guard for trial in self.trials if trial.runtime == self.chosen), None)

    @property
    def exceptions(self) -> str:
        """The end of a sentence about the choice: which requests TensorFlow computes all the same."""
        return f"; TensorFlow computes what is not within {self.guard}" if self.guard and str(self.guard) else ""

    def reason(self, runtime: str) -> str:
        """Why a runtime was rejected or not compared."""
        found = [trial.reason for trial in self.trials if trial.runtime == runtime and trial.reason]
        return found[0] if found else "it was not tried"


class Served(msgspec.Struct, kw_only=True):
    """What TensorFlow said of a model that another runtime serves, so that a deployment can begin with that runtime.

    It holds for deployments with the same `options`.
    """

    options: bytes
    signatures: dict[str, Any]
    image: dict[str, Any] | None


def choose(trials: Sequence[RuntimeTrial], *, asked: str = "auto") -> RuntimeTrial | None:
    """The trial to serve: the requested runtime if it agrees, else the fastest if clearly faster than TensorFlow.

    None if none is ok, not even TensorFlow.
    """
    reference = next((each for each in trials if each.runtime == TENSORFLOW and each.ok), None)
    others = [each for each in trials if each.ok and each.runtime != TENSORFLOW and asked in ("auto", each.runtime)]
    if asked == TENSORFLOW or not others:
        return reference
    fastest = min(others, key=lambda each: each.cost_s)
    if reference is None or asked != "auto":
        return fastest
    return fastest if fastest.cost_s <= CLEARLY_FASTER * reference.cost_s else reference


def contenders(trials: Sequence[RuntimeTrial]) -> list[RuntimeTrial]:
    """Those that may be the fastest if other work disturbed a measurement; none if one is far ahead."""
    timed = [each for each in trials if each.ok and each.cost_s < math.inf]
    limit = NEAR_COST * min((each.cost_s for each in timed), default=0.0)
    near = [each for each in timed if each.cost_s <= limit]
    return near if len(near) > 1 else []


class Conversions:
    """The cache folder of converted models. Safe to delete: missing models are converted again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, key: str, *, asked: str = "auto") -> Report | None:
        """The report on a model. None if it is missing or damaged, or if its files are gone."""
        report = _read(self._folder_of(key, asked) / _REPORT, Report)
        return report if report is not None and report.compared and self._is_intact(report) else None

    def _is_intact(self, report: Report) -> bool:
        """Whether the converted model is what was compared. Reads all of it."""
        if not report.path:
            return True
        try:
            key, kept = Path(report.path).relative_to(self._folder).parts[:2]
            return _digest(self._folder / key / kept) == report.digest
        except (OSError, ValueError):
            return False

    def has_any(self) -> bool:
        """Whether the choice for any model is known."""
        return any(self._folder.glob(f"*/{_REPORT}"))

    def served(self, key: str, options: bytes) -> tuple[Report, Served] | None:
        """The report on a model that is served by another runtime than TensorFlow, and how that was deployed."""
        served = _read(self._folder / key / _SERVED, Served)
        report = self.find(key) if served is not None and served.options == options else None
        return (report, served) if served is not None and report is not None and report.path else None

    def of(self, path: str) -> tuple[Report, Served | None] | None:
        """The report on a converted model, by its path, and how it was deployed. Its files are not read."""
        if not Path(path).is_relative_to(self._folder):
            return None
        folder = self._folder / Path(path).relative_to(self._folder).parts[0]
        report = _read(folder / _REPORT, Report)
        return (report, _read(folder / _SERVED, Served)) if report is not None and report.path == path else None

    def set_served(self, report: Report, served: Served) -> None:
        """Records how a chosen runtime was deployed. Raises `OSError`."""
        folder = self._folder / Path(report.path).relative_to(self._folder).parts[0]
        temporary = folder / f"{_SERVED}.{os.getpid()}"
        _write(temporary, msgspec.json.encode(served))
        temporary.replace(folder / _SERVED)

    def begin(self, key: str) -> Path:
        """A new work folder."""
        folder = self._folder / f"{key}.aside.{os.getpid()}.{next(_numbers)}"
        folder.mkdir(parents=True)
        return folder

    def end(
        self, key: str, work: Path, trials: Sequence[RuntimeTrial], *, precision: str, asked: str = "auto"
    ) -> Report:
        """Stores the chosen model and the report, and deletes the rest of the work folder. Raises `OSError`.

        Stores nothing if nothing was compared: the next deployment tries again.
        """
        chosen = choose(trials, asked=asked)
        final = self._folder_of(key, asked)
        path = str(final / chosen.path) if chosen is not None and chosen.path else ""
        report = Report(
            chosen=TENSORFLOW if chosen is None else chosen.runtime, precision=precision, trials=list(trials), path=path
        )
        if not report.compared and not path:
            self.abandon(work)
            return report
        _keep_only(work, chosen.path if chosen is not None else "")
        if chosen is not None and path:
            report.digest = _digest(work / Path(chosen.path).parts[0])
        if report.compared:
            _write(work / _REPORT, msgspec.json.format(msgspec.json.encode(report)))
        _replace(work, final)
        return report

    def abandon(self, work: Path) -> None:
        """Deletes the work folder of an abandoned conversion."""
        shutil.rmtree(work, ignore_errors=True)

    def _folder_of(self, key: str, asked: str) -> Path:
        """A folder of its own for each trial, because a served model may be reloaded from there."""
        return self._folder / (key if asked == "auto" else f"{key}-{asked}")

    def clear_aside(self) -> None:
        """Removes leftovers of killed servers. Call it before the first `begin`."""
        for folder in self._folder.glob("*.aside.*"):
            shutil.rmtree(folder, ignore_errors=True)


def _read(file: Path, type_: type[T]) -> T | None:
    """None if it is missing or damaged."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=type_)
    except (OSError, msgspec.DecodeError):
        return None


def _digest(path: Path) -> str:
    """The SHA-256 of a file, or of all files in a folder: names and bytes."""
    digest = hashlib.sha256()
    for file in sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]:
        with file.open("rb") as opened:
            content = hashlib.file_digest(opened, "sha256").hexdigest()
        digest.update(f"{file.relative_to(path)} {content}\n".encode())
    return digest.hexdigest()


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
    """Replaces an existing folder, which must be damaged, or it would have been found."""
    if final.exists():
        shutil.rmtree(final)
    work.rename(final)
