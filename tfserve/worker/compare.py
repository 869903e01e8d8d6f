"""The role that finds out which runtime computes a model fastest, and whether it gives TensorFlow's numbers.

One candidate is tried per process: a converter that crashes, hangs or eats memory costs only itself.
"""

from __future__ import annotations

import heapq
import importlib.util
import logging
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from tfserve import runtimes
from tfserve.conversions import NOT_COMPARED, TENSORFLOW, Guard, Trial
from tfserve.errors import Conflict, Internal, Invalid, TFserveError, Unsupported
from tfserve.ipc.connections import BlockingConnection
from tfserve.ipc.messages import Convert, Converted, Done, Failed, IdentifyModel, Message
from tfserve.models import formats
from tfserve.models.formats import Located
from tfserve.runtimes import conversion, exports, fingerprint, frozen, known_names
from tfserve.runtimes.guarded import Guarded, outside
from tfserve.runtimes.interface import Runtime
from tfserve.runtimes.tensorflow import GraphModel
from tfserve.worker import agreement, held_out, reference
from tfserve.worker.agreement import Difference
from tfserve.worker.inbox import Inbox
from tfserve.worker.reference import ODD_TEXT, ORDINARY, SAMPLE, TINY, Case, Reference
from tfserve.worker.trial_inputs import Inputs

log = logging.getLogger(__name__)

NICE = 10
"""So much less of the processor than those who answer predictions."""
DEVICE = "/cpu:0"
WARM_CALLS = 3
ROUND_S = 0.001
"""Calls that are shorter are timed several at once."""
MIN_ROUNDS, ENOUGH_S, TOO_LONG_S = 5, 0.4, 2.0
NEAR = 1.1
"""A shortest time is believed when another one came so near to it."""


class CompareRole:
    """Identifies or converts what it is told to, one after the other."""

    def __init__(self, connection: BlockingConnection) -> None:
        self._connection = connection
        os.nice(NICE)

    def serve(self, inbox: Inbox, request_id: int, first: Message) -> None:
        """Answers `first`, then everything else in order, until the worker is to stop."""
        self._connection.answer(request_id, answer(first))
        for each_id, message in inbox:
            self._connection.answer(each_id, answer(message))


def answer(message: Message) -> Message:
    try:
        match message:
            case IdentifyModel():
                return Done(value=fingerprint.key(_located(message.path), precision=message.precision))
            case Convert():
                return Converted(trial=_try(message))
        raise Invalid(f"a worker that converts was sent {type(message).__name__}")
    except TFserveError as error:
        return Failed(failure=error.to_failure())
    except OSError as error:
        return Failed(failure=Internal(f"The conversion failed: {error}").to_failure())


def _located(path: str) -> Located:
    model = formats.locate(path)
    if importlib.util.find_spec(TENSORFLOW) is None:
        raise Unsupported(f"{path} was {NOT_COMPARED}.")
    if model.format not in formats.CONVERTIBLE:
        raise Unsupported(
            f"{path} is a {model.format}: SavedModels, Keras files and TensorFlow.js models are converted."
        )
    return model


def _try(message: Convert) -> Trial:
    model = _located(message.path)
    with_reference = _try_tensorflow if message.candidate == TENSORFLOW else _try_candidate
    trial = with_reference(model, message)
    if fingerprint.key(model, precision=message.precision) != message.key:
        raise Conflict(f"The files of {message.path} changed while they were converted.")
    return trial


# --- TensorFlow first


def _try_tensorflow(model: Located, message: Convert) -> Trial:
    folder = Path(message.work_folder)
    saved_model = model.path
    if model.format != formats.SAVED_MODEL:
        saved_model = folder / "saved_model"
        exports.write(model, saved_model)
    runtime = runtimes.load(Located(formats.SAVED_MODEL, saved_model, None), device=DEVICE, runtime=TENSORFLOW)
    name = conversion.signature_of(runtime.signatures)
    if isinstance(runtime, GraphModel) and runtime.lacked_values:
        # Converters restore a SavedModel as its saver does, and compute with whatever is in the other variables.
        frozen.write(saved_model, name, folder / "frozen")
        saved_model = folder / "frozen"
    kept = held_out.samples(model, name, runtime.signatures[name])
    found = reference.make(runtime, saved_model, name, [*kept, *message.samples])
    found.write(folder)
    if isinstance(runtime, GraphModel):
        runtime.known_names().write(folder)
    trial = Trial(
        runtime=TENSORFLOW, ok=True, reason=found.problem, compared=len(found.cases), needs_samples=found.needs_samples
    )
    _measure(trial, runtime, found)
    trial.size_bytes = _size_bytes(model.path)
    return trial


# --- and then one other


def _try_candidate(model: Located, message: Convert) -> Trial:  # noqa: ARG001 - the reference says where the graph is
    """A converter's failure of any kind is a result; it is not ours."""
    trial = Trial(runtime=message.candidate, ok=False)
    found = Reference.read(Path(message.work_folder))
    if found.problem and (found.must_stay or not message.was_requested):
        trial.reason = found.problem
        return trial
    try:
        runtime = _converted(trial, found, message)
        trial.guard = found.guard(0, normal_only=False, ascii_only=False)
        if not found.problem:
            trial.reason = _compared(trial, runtime, found, reduced=message.precision != "float32")
        if not (found.problem or trial.reason):
            _measure(trial, Guarded(runtime, trial.guard), found)
    except TFserveError as error:
        trial.reason = error.message
    except Exception as error:
        log.debug("%s can't compute %s", message.candidate, message.path, exc_info=True)
        trial.reason = f"it can't be converted: {_first_lines(error)}"
    trial.ok = not trial.reason
    trial.reason = trial.reason or found.problem
    return trial


def _converted(trial: Trial, found: Reference, message: Convert) -> Runtime:
    """The model as the candidate loads it."""
    begun_at = time.monotonic()
    file = conversion.convert(
        message.candidate, Path(found.saved_model), found.name, found.signature,
        precision=message.precision, to=Path(message.work_folder) / message.candidate,
    )  # fmt: skip
    known_names.copy(Path(message.work_folder), file.parent)
    trial.convert_s = round(time.monotonic() - begun_at, 3)
    trial.path = str(file.relative_to(message.work_folder))
    trial.size_bytes = _size_bytes(file.parent)
    return runtimes.load(
        formats.locate(str(file)), device=DEVICE, runtime=message.candidate, precision=message.precision
    )


def _compared(trial: Trial, runtime: Runtime, found: Reference, *, reduced: bool) -> str:
    """The reason why the outputs do not agree, or nothing; then `trial.guard` says where they do.

    Ordinary inputs must agree. Where others do not, requests with such values are TensorFlow's.
    """
    difference, agreed = Difference(), len(found.envelopes) - 1
    odd: set[str] = set()
    for case in sorted(found.cases, key=lambda case: case.level):
        if case.level > agreed:
            continue
        is_ordinary = case.level == 0 and case.what in (SAMPLE, ORDINARY)
        problem = _problem(difference if is_ordinary else Difference(), runtime, found, case, reduced=reduced)
        trial.compared += 1
        if problem and is_ordinary:
            break
        if problem and case.level:
            agreed = case.level - 1
        elif problem:
            odd.add(case.what)
    trial.max_abs_diff, trial.max_rel_diff = difference.max_abs, difference.max_rel
    trial.same_classes, trial.other_classes = difference.same_classes, difference.other_classes
    odd |= {TINY, ODD_TEXT} - {case.what for case in found.cases}  # what was not tried did not agree
    trial.guard = found.guard(agreed, normal_only=TINY in odd, ascii_only=ODD_TEXT in odd)
    return difference.problem or _why_useless(trial.guard, found)


def _problem(difference: Difference, runtime: Runtime, found: Reference, case: Case, *, reduced: bool) -> str:
    """Compares one case."""
    names = [spec.name for spec in found.signature.outputs]
    expected = case.expected()
    try:
        given = reference.compute(runtime, case.arrays(), names, found.name)
    except TFserveError as error:
        if expected is not None:
            difference.problem = f"it refuses what TensorFlow computes: {error.message}"
    else:
        if expected is None:
            difference.problem = "it computes what TensorFlow refuses"
        else:
            compare = agreement.compare_reduced if reduced else agreement.compare
            compare(difference, names, given, expected, close=case.close_calls())
    return difference.problem


def _why_useless(guard: Guard, found: Reference) -> str:
    """Why a model that agrees would compute next to nothing, or nothing."""
    if single := [name for name, (lowest, highest) in guard.ranges.items() if lowest == highest]:
        return f"it agrees with TensorFlow only for a single number in {single[0]!r}"
    samples = [case.arrays() for case in found.cases if case.what == SAMPLE]
    left = sum(outside(guard, inputs) is not None for inputs in samples)
    return "most requests have values for which it does not agree with TensorFlow" if left > len(samples) / 2 else ""


def _measure(trial: Trial, runtime: Runtime, found: Reference) -> None:
    names = [spec.name for spec in found.signature.outputs]
    for rows, inputs in found.timed().items():
        median_s, trial.best_s[str(rows)], trial.cpu_s[str(rows)] = _times(_call(runtime, inputs, names, found.name))
        trial.p50_s = median_s if trial.p50_s is None else trial.p50_s


def _call(runtime: Runtime, inputs: Inputs, names: list[str], signature: str) -> Callable[[], object]:
    return lambda: runtime.run(inputs, names, signature)


def _times(call: Callable[[], object]) -> tuple[float, float, float]:
    """Seconds of one call: median, shortest, and least of all cores together."""
    for _ in range(WARM_CALLS):
        call()
    calls = 1 + int(ROUND_S / max(_round(call, 1)[0], 1e-7))
    begun_at = time.perf_counter()
    walls: list[float] = []
    cpus: list[float] = []
    while not _is_enough(walls, time.perf_counter() - begun_at):
        wall_s, cpu_s = _round(call, calls)
        walls.append(wall_s)
        cpus.append(cpu_s)
    return statistics.median(walls), min(walls), max(min(cpus), 1e-9)


def _round(call: Callable[[], object], calls: int) -> tuple[float, float]:
    """Seconds of one call, by the clock and of all cores together."""
    cpu_at, begun_at = time.process_time(), time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - begun_at) / calls, (time.process_time() - cpu_at) / calls


def _is_enough(walls: list[float], took_s: float) -> bool:
    if len(walls) < MIN_ROUNDS or took_s < ENOUGH_S:
        return False
    shortest = heapq.nsmallest(2, walls)
    return took_s > TOO_LONG_S or shortest[1] <= NEAR * shortest[0]


def _size_bytes(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _first_lines(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:2])}"[:500]
