"""The role that finds the fastest runtime for a model, and checks that it agrees with TensorFlow.

Each candidate gets its own process, so a converter that crashes, hangs or exhausts memory affects nothing else.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import time
from functools import partial
from pathlib import Path

from tfserve import linux, paths, runtimes
from tfserve.errors import Conflict, Internal, Invalid, TFserveError, Unsupported
from tfserve.ipc.connections import BlockingConnection
from tfserve.ipc.messages import Convert, Converted, Done, Failed, IdentifyModel, Message
from tfserve.models import fingerprint, formats
from tfserve.models.formats import Located
from tfserve.models.runtime_reports import NOT_COMPARED, TENSORFLOW, ConversionGuard, RuntimeTrial
from tfserve.runtimes import call_latency, conversion, known_names, saved_model_exports
from tfserve.runtimes.error_summary import named_cause
from tfserve.runtimes.guarded import Guarded, outside
from tfserve.runtimes.interface import Runtime
from tfserve.runtimes.tensorflow import GraphModel
from tfserve.worker.inbox import Inbox
from tfserve.worker.model import held_out_samples
from tfserve.worker.trials import numeric_diff, reference_outputs
from tfserve.worker.trials.numeric_diff import Difference
from tfserve.worker.trials.reference_outputs import ODD_TEXT, ORDINARY, SAMPLE, TINY, Case, Reference

log = logging.getLogger(__name__)

NICE = 10
"""Niceness: predictions of other processes come first."""
DEVICE = "/cpu:0"


class CompareRole:
    """Processes identification and conversion requests one by one."""

    def __init__(self, connection: BlockingConnection) -> None:
        self._connection = connection
        linux.give_way(NICE)

    def serve(self, inbox: Inbox, request_id: int, first: Message) -> None:
        """Answers `first`, then all further requests in order, until `Stop`."""
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
        raise Invalid(f"a conversion worker received {type(message).__name__}")
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
            f"{path} is a {model.format}. Only SavedModels, Keras files and TensorFlow.js models are converted."
        )
    return model


def _try(message: Convert) -> RuntimeTrial:
    model = _located(message.path)
    if message.again is not None:
        return _timed_again(message.again, model, message)
    with_reference = _try_tensorflow if message.candidate == TENSORFLOW else _try_candidate
    trial = with_reference(model, message)
    if fingerprint.key(model, precision=message.precision) != message.key:
        raise Conflict(f"The files of {message.path} changed during the conversion.")
    return trial


# --- TensorFlow first


def _try_tensorflow(model: Located, message: Convert) -> RuntimeTrial:
    folder = Path(message.work_folder)
    saved_model = model.path
    if model.format != formats.SAVED_MODEL:
        saved_model = folder / "saved_model"
        saved_model_exports.write(model, saved_model)
    runtime = runtimes.load(Located(formats.SAVED_MODEL, saved_model, None), device=DEVICE, runtime=TENSORFLOW)
    name = conversion.signature_of(runtime.signatures)
    if isinstance(runtime, GraphModel) and runtime.lacked_values:
        # Converters restore only the variables of the SavedModel's saver; the others have arbitrary values.
        conversion.freeze(saved_model, name, folder / "frozen")
        saved_model = folder / "frozen"
    kept = held_out_samples.samples(model, name, runtime.signatures[name])
    found = reference_outputs.make(
        runtime, saved_model, name, [*kept, *message.samples], needs_limits=message.was_requested
    )
    found.write(folder)
    if isinstance(runtime, GraphModel):
        runtime.known_names().write(folder)
    trial = RuntimeTrial(
        runtime=TENSORFLOW, ok=True, reason=found.problem, compared=len(found.cases), needs_samples=found.needs_samples
    )
    _measure(trial, runtime, found)
    trial.size_bytes = paths.size_bytes(model.path)
    return trial


# --- then one candidate


def _try_candidate(model: Located, message: Convert) -> RuntimeTrial:  # noqa: ARG001 - the reference says where the graph is
    """Any failure of a converter is a result, not an error of the worker."""
    trial = RuntimeTrial(runtime=message.candidate, ok=False)
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
        trial.reason = f"it can't be converted: {named_cause(error)}"
    trial.ok = not trial.reason
    trial.reason = trial.reason or found.problem
    return trial


def _converted(trial: RuntimeTrial, found: Reference, message: Convert) -> Runtime:
    """The model as the candidate loads it."""
    started_at = time.monotonic()
    file = conversion.convert(
        message.candidate, Path(found.saved_model), found.name, found.signature,
        precision=message.precision, to=Path(message.work_folder) / message.candidate,
    )  # fmt: skip
    known_names.copy(Path(message.work_folder), file.parent)
    trial.convert_s = round(time.monotonic() - started_at, 3)
    trial.path = str(file.relative_to(message.work_folder))
    trial.size_bytes = paths.size_bytes(file.parent)
    return _loaded(file, message)


def _loaded(file: Path, message: Convert) -> Runtime:
    return runtimes.load(
        formats.locate(str(file)), device=DEVICE, runtime=message.candidate, precision=message.precision
    )


def _timed_again(trial: RuntimeTrial, model: Located, message: Convert) -> RuntimeTrial:
    folder = Path(message.work_folder)
    found = Reference.read(folder)
    if trial.path:
        file = folder / trial.path
    else:  # TensorFlow: as it serves the model, not a graph that was frozen for converters
        file = model.path if model.format == formats.SAVED_MODEL else Path(found.saved_model)
    runtime = _loaded(file, message)
    _measure(trial, runtime if trial.guard is None else Guarded(runtime, trial.guard), found)
    return trial


def _compared(trial: RuntimeTrial, runtime: Runtime, found: Reference, *, reduced: bool) -> str:
    """Why the outputs do not agree, or an empty string; then `trial.guard` has the limits within which they do.

    Ordinary inputs must agree. Where extreme ones do not, TensorFlow answers requests with such values.
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
        given = reference_outputs.compute(runtime, case.arrays(), names, found.name)
    except TFserveError as error:
        if expected is not None:
            difference.problem = f"it rejects inputs that TensorFlow accepts: {error.message}"
    else:
        if expected is None:
            difference.problem = "it accepts inputs that TensorFlow rejects"
        else:
            numeric_diff.compare(difference, names, given, expected, close=case.close_calls(), reduced=reduced)
    return difference.problem


def _why_useless(guard: ConversionGuard, found: Reference) -> str:
    """Why a model that agrees could hardly be used, or an empty string."""
    if single := [name for name, (lowest, highest) in guard.ranges.items() if lowest == highest]:
        return f"it agrees with TensorFlow for only one value of {single[0]!r}"
    samples = [case.arrays() for case in found.cases if case.what == SAMPLE]
    left = sum(outside(guard, inputs) is not None for inputs in samples)
    return "it does not agree with TensorFlow for the values in most requests" if left > len(samples) / 2 else ""


def _measure(trial: RuntimeTrial, runtime: Runtime, found: Reference) -> None:
    """Keeps the shortest times of all measurements: other work on the machine only adds to them."""
    names = [spec.name for spec in found.signature.outputs]
    medians = []
    for rows, inputs in found.timed().items():
        latency = call_latency.measure(partial(runtime.run, inputs, names, found.name))
        trial.best_s[str(rows)] = min(latency.best_s, trial.best_s.get(str(rows), math.inf))
        trial.cpu_s[str(rows)] = min(latency.cpu_s, trial.cpu_s.get(str(rows), math.inf))
        medians.append(latency.median_s)
    trial.p50_s = min(medians[0], trial.p50_s or math.inf) if medians else trial.p50_s
