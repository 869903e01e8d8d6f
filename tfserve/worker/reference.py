"""What TensorFlow says: inputs and its outputs for them, kept in a file for those who are compared with it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np

from tfserve.conversions import ENOUGH_SAMPLES, Guard
from tfserve.errors import Invalid, TFserveError
from tfserve.ipc.predictions import Tensor, to_array, to_tensor
from tfserve.runtimes import decisions, guarded, state
from tfserve.runtimes.interface import Runtime
from tfserve.tensors import DTYPES, Array, Signature
from tfserve.worker import limits, trial_inputs
from tfserve.worker.agreement import Difference, compare
from tfserve.worker.trial_inputs import Inputs

FILE = "reference.msgpack"
MAX_CASES = 120
MAX_BYTES = 256 * 1024 * 1024
"""Of all inputs and outputs together."""
LEAST_CASES, CASES_S = 6, 90.0
"""After so long, and with so many cases, no others are tried: the candidates need their time, too."""

SAMPLE, ORDINARY, TINY, ODD_TEXT = "sample", "", "tiny", "odd text"


class Case(msgspec.Struct, array_like=True, frozen=True):
    """`outputs` are None when TensorFlow refuses the inputs. `level` is the envelope that the numbers are from.

    `close` has, for outputs that are masks, where two classes were nearly equal.
    """

    inputs: dict[str, Tensor]
    outputs: tuple[Tensor, ...] | None
    level: int = 0
    what: str = ORDINARY
    close: dict[str, Tensor] = {}

    def arrays(self) -> Inputs:
        return {name: to_array(tensor) for name, tensor in self.inputs.items()}

    def expected(self) -> list[Array] | None:
        return None if self.outputs is None else [to_array(tensor) for tensor in self.outputs]

    def close_calls(self) -> dict[str, Array]:
        return {name: to_array(tensor) for name, tensor in self.close.items()}


class Reference(msgspec.Struct, frozen=True):
    """A signature called `name` of a SavedModel, and what it computes. `problem` says why there are no cases.

    `envelopes` are the ranges of the cases' levels. With `needs_samples` real requests may show what made-up inputs
    can't. With `must_stay` no other runtime may compute the model, even if it was requested.
    """

    saved_model: str
    name: str
    signature: Signature
    cases: list[Case] = []
    envelopes: list[trial_inputs.Envelope] = []
    problem: str = ""
    needs_samples: bool = False
    must_stay: bool = False

    def write(self, folder: Path) -> None:
        (folder / FILE).write_bytes(msgspec.msgpack.encode(self))

    @classmethod
    def read(cls, folder: Path) -> Reference:
        """Raises `Invalid` when TensorFlow has not been here."""
        try:
            return msgspec.msgpack.decode((folder / FILE).read_bytes(), type=cls)
        except FileNotFoundError:
            raise Invalid(f"{folder} has no {FILE}: the first candidate to convert for is tensorflow.") from None

    def guard(self, level: int, *, normal_only: bool, ascii_only: bool) -> Guard:
        """Lets pass what agreed up to a level. A range that all numbers of a type are in needs no check.

        Without cases all finite floats pass.
        """
        specs = {spec.name: spec for spec in self.signature.inputs if spec.dtype in DTYPES}
        if not self.envelopes:
            floats = {name: spec for name, spec in specs.items() if DTYPES[spec.dtype].kind == "float"}
            return Guard({name: limits.type_limits(spec) for name, spec in floats.items()})
        ranges = {
            name: range_
            for name, range_ in self.envelopes[level].items()
            if DTYPES[specs[name].dtype].kind == "float" or range_ != limits.type_limits(specs[name])
        }
        kinds = {DTYPES[spec.dtype].kind for spec in specs.values()}
        return Guard(ranges, normal_only and "float" in kinds, ascii_only and "string" in kinds)

    def timed(self) -> dict[int, Inputs]:
        """Inputs to measure times with, by their number of examples, the fewest first."""
        by_rows: dict[int, Inputs] = {}
        for case in self.cases:
            if case.outputs is not None and case.level == 0 and case.what in (SAMPLE, ORDINARY):
                arrays = case.arrays()
                rows = next((array.shape[0] for array in arrays.values() if array.ndim), 1)
                by_rows.setdefault(rows, arrays)
        wanted = [rows for rows in trial_inputs.TIMED_ROWS if rows in by_rows] or sorted(by_rows)[:1]
        return {rows: by_rows[rows] for rows in wanted}


class _NoReference(Exception):
    """Nothing can be compared with TensorFlow."""

    def __init__(self, problem: str, *, needs_samples: bool = False) -> None:
        super().__init__(problem)
        self.needs_samples = needs_samples


def make(runtime: Runtime, saved_model: Path, name: str, samples: Sequence[bytes]) -> Reference:
    """Computes the outputs of all inputs that there are. What TensorFlow refuses is remembered, too."""
    signature = runtime.signatures[name]
    if state.is_stateful(runtime):
        return Reference(str(saved_model), name, signature, problem=state.NEVER_MOVED, must_stay=True)
    given = list(trial_inputs.from_samples(name, signature, list(dict.fromkeys(samples))))
    try:
        cases, envelopes = _Maker(runtime, name, given).make()
    except _NoReference as problem:
        return Reference(
            str(saved_model), name, signature, problem=str(problem), needs_samples=problem.needs_samples
        )  # fmt: skip
    return Reference(str(saved_model), name, signature, cases, envelopes)


class _Maker:
    """Computes with TensorFlow, one case after the other."""

    def __init__(self, runtime: Runtime, name: str, given: Sequence[Inputs]) -> None:
        self._runtime = runtime
        self._name = name
        self._signature = runtime.signatures[name]
        self._names = [spec.name for spec in self._signature.outputs]
        self._given = given
        self._decisions = decisions.find(runtime, name, self._signature)
        self._can_make_up = not trial_inputs.why_not(self._signature)
        self._cases: list[Case] = []
        self._size_bytes = 0

    def make(self) -> tuple[list[Case], list[trial_inputs.Envelope]]:
        self._check_enough()
        base = self._base()
        found = limits.find(self._compute, self._signature, base)
        if isinstance(found, str):
            raise _NoReference(found)
        envelopes = trial_inputs.envelopes(self._signature, found)
        complete = len(envelopes)
        ends_at = time.monotonic() + CASES_S
        for level, what, inputs in self._inputs(base, envelopes):
            is_late = what != SAMPLE and len(self._cases) >= LEAST_CASES and time.monotonic() > ends_at
            if is_late and not level:
                continue
            if is_late or len(self._cases) == MAX_CASES or self._size_bytes > MAX_BYTES:
                complete = max(level, 1)
                break
            self._add(level, what, inputs)
        return [case for case in self._cases if case.level < complete], envelopes[:complete]

    def _check_enough(self) -> None:
        if never := trial_inputs.why_never(self._signature):
            raise _NoReference(never)
        if not self._can_make_up and len(self._given) < ENOUGH_SAMPLES:
            raise _NoReference(
                f"{trial_inputs.why_not(self._signature)}; {ENOUGH_SAMPLES} different requests are needed to compare,"
                f" {len(self._given)} were there",
                needs_samples=True,
            )

    def _base(self) -> Inputs:
        made_up = list(trial_inputs.first_bases(self._signature)) if self._can_make_up else []
        for inputs in [*self._given, *made_up]:
            if _is_finite(inputs) and all(array.size for array in inputs.values()):
                try:
                    self._compute(inputs)
                except TFserveError:
                    continue
                return inputs
        raise _NoReference("TensorFlow refuses every input that was tried", needs_samples=True)

    def _inputs(self, base: Inputs, envelopes: Sequence[trial_inputs.Envelope]) -> Iterator[tuple[int, str, Inputs]]:
        for inputs in self._given:
            level = next(
                (n for n, each in enumerate(envelopes) if guarded.outside(Guard(dict(each)), inputs) is None), None
            )
            if level is not None:
                yield level, SAMPLE, inputs
        if self._can_make_up:
            yield from ((0, ORDINARY, inputs) for inputs in trial_inputs.ordinary(self._signature, envelopes[0]))
        else:
            yield from ((0, ORDINARY, inputs) for inputs in self._from_given(envelopes[0]))
        tiny = trial_inputs.tiny(base)
        if tiny is not None and guarded.outside(Guard(dict(envelopes[0])), tiny) is None:
            yield 0, TINY, tiny
        yield from ((0, ODD_TEXT, inputs) for inputs in trial_inputs.odd_texts(base))
        for level, envelope in enumerate(envelopes[1:], 1):
            yield from ((level, ORDINARY, inputs) for inputs in trial_inputs.varied(base, envelope, level))

    def _from_given(self, envelope: trial_inputs.Envelope) -> Iterator[Inputs]:
        for number, inputs in enumerate(self._given[:ENOUGH_SAMPLES]):
            if guarded.outside(Guard(dict(envelope)), inputs) is None:
                yield from trial_inputs.relatives(self._signature, inputs)
                yield from trial_inputs.varied(inputs, envelope, number) if envelope else ()

    def _compute(self, inputs: Inputs) -> list[Array]:
        return compute(self._runtime, inputs, self._names, self._name)

    def _add(self, level: int, what: str, inputs: Inputs) -> None:
        case = self._case(level, what, inputs)
        self._cases.append(case)
        self._size_bytes += sum(
            len(tensor.data) for tensor in (*case.inputs.values(), *(case.outputs or ()), *case.close.values())
        )

    def _case(self, level: int, what: str, inputs: Inputs) -> Case:
        tensors = {each: to_tensor(array) for each, array in inputs.items()}
        try:
            first, second = self._compute(inputs), self._compute(inputs)
        except TFserveError:
            return Case(tensors, None, level, what)
        found = Difference()
        compare(found, self._names, second, first)
        if found.problem:
            raise _NoReference("the model gives other numbers each time, so nothing can be compared")
        close = self._decisions.close_calls(inputs, dict(zip(self._names, first, strict=True)))
        return Case(
            tensors,
            tuple(map(to_tensor, first)),
            level,
            what,
            {each: to_tensor(array) for each, array in close.items()},
        )


def compute(runtime: Runtime, inputs: Inputs, names: Sequence[str], signature: str) -> list[Array]:
    """All outputs of a signature. Raises what the runtime raises."""
    return [output for output in runtime.run(inputs, names, signature) if output is not None]


def _is_finite(inputs: Inputs) -> bool:
    return all(array.dtype.kind in "biuO" or bool(np.isfinite(array).all()) for array in inputs.values())
