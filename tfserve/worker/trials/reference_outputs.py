"""Reference inputs and TensorFlow's outputs for them, in a file that candidates are compared with."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import msgspec
import numpy as np

from tfserve.errors import Invalid, TFserveError
from tfserve.ipc.predictions import Tensor, to_array, to_tensor
from tfserve.models.runtime_reports import ENOUGH_SAMPLES, ConversionGuard, Number
from tfserve.runtimes import decisions, guarded, row_walk, state, synthetic_inputs
from tfserve.runtimes.interface import Runtime
from tfserve.tensors.dtypes import DTYPES
from tfserve.tensors.specs import Array, Signature, TensorSpec
from tfserve.worker.trials import accepted_numbers, trial_inputs
from tfserve.worker.trials.numeric_diff import Difference, compare, is_exact
from tfserve.worker.trials.trial_inputs import Inputs

FILE = "reference.msgpack"
MAX_CASES = 120
MAX_BYTES = 256 * 1024 * 1024
"""Maximum size of all inputs and outputs."""
LEAST_CASES, CASES_S = 6, 90.0
"""After this time, and with this many cases, no others are tried: the candidates need time, too."""

NONE: tuple[Number, Number] = (1, 0)
"""The range of no number."""

SAMPLE, ORDINARY, TINY, ODD_TEXT = "sample", "", "tiny", "odd text"


class Case(msgspec.Struct, array_like=True, frozen=True):
    """`outputs` are None when TensorFlow rejects the inputs. `level` is the envelope that the numbers are from.

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
    """A signature called `name` of a SavedModel, and what it computes. `problem` is the reason if it has no cases.

    `envelopes` are the ranges of the cases' levels. Without cases `limits` are the numbers that TensorFlow accepts, as
    far as inputs of a made-up size show them. With `needs_samples`, recorded requests may succeed where synthetic
    inputs can't. With `must_stay`, no other runtime may serve the model, even if it was requested. `why_mixed` is why
    an output may depend on several rows of a batch, if it may.
    """

    saved_model: str
    name: str
    signature: Signature
    cases: list[Case] = []
    envelopes: list[trial_inputs.Envelope] = []
    limits: trial_inputs.Envelope = {}
    problem: str = ""
    needs_samples: bool = False
    must_stay: bool = False
    why_mixed: str = ""

    def write(self, folder: Path) -> None:
        (folder / FILE).write_bytes(msgspec.msgpack.encode(self))

    @classmethod
    def read(cls, folder: Path) -> Reference:
        """Raises `Invalid` when the reference has not been written yet."""
        try:
            return msgspec.msgpack.decode((folder / FILE).read_bytes(), type=cls)
        except FileNotFoundError:
            raise Invalid(f"{folder} has no {FILE}. Convert for tensorflow first.") from None

    def guard(self, level: int, *, normal_only: bool, ascii_only: bool) -> ConversionGuard:
        """The guard that accepts values up to a level that agreed. A range with all numbers of a type needs no check.

        Without cases those that TensorFlow accepts pass, except negative whole numbers, which other libraries may count
        from the end. If it is not known what TensorFlow accepts, all finite floats pass, and no whole numbers.
        """
        specs = {spec.name: spec for spec in self.signature.inputs if spec.dtype in DTYPES}
        if not self.envelopes:
            limits = {name: self._limits(spec) for name, spec in specs.items() if _is_number(spec)}
            return ConversionGuard(limits, why_mixed=self.why_mixed)
        ranges = {
            name: range_
            for name, range_ in self.envelopes[level].items()
            if DTYPES[specs[name].dtype].kind == "float" or range_ != accepted_numbers.type_limits(specs[name])
        }
        kinds = {DTYPES[spec.dtype].kind for spec in specs.values()}
        return ConversionGuard(
            ranges, normal_only and "float" in kinds, ascii_only and "string" in kinds, self.why_mixed
        )

    def _limits(self, spec: TensorSpec) -> tuple[Number, Number]:
        if DTYPES[spec.dtype].kind == "float":
            return self.limits.get(spec.name, accepted_numbers.type_limits(spec))
        lowest, highest = self.limits.get(spec.name, NONE)
        return max(0, lowest), highest

    def timed(self) -> dict[int, Inputs]:
        """Inputs to measure times with, by their number of examples, the fewest first."""
        by_rows: dict[int, Inputs] = {}
        for case in self.cases:
            if case.outputs is not None and case.level == 0 and case.what in (SAMPLE, ORDINARY):
                arrays = case.arrays()
                rows = next((array.shape[0] for array in arrays.values() if array.ndim), 1)
                by_rows.setdefault(rows, arrays)
        timed = [rows for rows in trial_inputs.TIMED_ROWS if rows in by_rows] or sorted(by_rows)[:1]
        return {rows: by_rows[rows] for rows in timed}


class _NoReference(Exception):
    """Raised when nothing can be compared with TensorFlow."""

    def __init__(self, problem: str, *, needs_samples: bool = False) -> None:
        super().__init__(problem)
        self.needs_samples = needs_samples


def make(
    runtime: Runtime, saved_model: Path, name: str, samples: Sequence[bytes], *, needs_limits: bool = False
) -> Reference:
    """Computes the outputs of all inputs that there are. Rejected inputs are recorded, too.

    With `needs_limits` another runtime will serve the model even if nothing can be compared.
    """
    signature = runtime.signatures[name]
    if state.is_stateful(runtime):
        return Reference(str(saved_model), name, signature, problem=state.NEVER_MOVED, must_stay=True)
    outputs = [spec.name for spec in signature.outputs]
    why_mixed = row_walk.why_mixed(runtime, signature.input_names, outputs, name)
    given = list(trial_inputs.from_samples(name, signature, list(dict.fromkeys(samples))))
    try:
        cases, envelopes = _Maker(runtime, name, given).make()
    except _NoReference as problem:
        limits = _made_up_limits(runtime, name) if needs_limits else {}
        return Reference(
            str(saved_model), name, signature, limits=limits, problem=str(problem), needs_samples=problem.needs_samples,
            why_mixed=why_mixed,
        )  # fmt: skip
    return Reference(str(saved_model), name, signature, cases, envelopes, why_mixed=why_mixed)


def _made_up_limits(runtime: Runtime, name: str) -> trial_inputs.Envelope:
    """The numbers that TensorFlow accepts in inputs of a made-up size; empty if it rejects all of them."""
    signature = runtime.signatures[name]
    if not synthetic_inputs.is_possible(signature):
        return {}
    computed = partial(compute, runtime, names=signature.output_names, signature=name)
    for recipe in synthetic_inputs.recipes(signature):
        base = recipe.inputs(signature)
        try:
            computed(base)
        except TFserveError:
            continue
        found = accepted_numbers.find(computed, signature, base)
        return {} if isinstance(found, str) else found
    return {}


class _Maker:
    """Computes with TensorFlow, one case after the other."""

    def __init__(self, runtime: Runtime, name: str, given: Sequence[Inputs]) -> None:
        self._runtime = runtime
        self._name = name
        self._signature = runtime.signatures[name]
        self._names = [spec.name for spec in self._signature.outputs]
        self._given = given
        self._decisions = decisions.find(runtime, name, self._signature)
        self._can_generate = not trial_inputs.why_not(self._signature)
        self._cases: list[Case] = []
        self._size_bytes = 0

    def make(self) -> tuple[list[Case], list[trial_inputs.Envelope]]:
        self._check_enough()
        base = self._base()
        found = accepted_numbers.find(self._compute, self._signature, base)
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
        if not self._can_generate and len(self._given) < ENOUGH_SAMPLES:
            raise _NoReference(
                f"{trial_inputs.why_not(self._signature)}; a comparison needs {ENOUGH_SAMPLES} different requests,"
                f" found {len(self._given)}",
                needs_samples=True,
            )

    def _base(self) -> Inputs:
        generated = list(trial_inputs.first_bases(self._signature)) if self._can_generate else []
        for inputs in [*self._given, *generated]:
            if _is_finite(inputs) and all(array.size for array in inputs.values()):
                try:
                    self._compute(inputs)
                except TFserveError:
                    continue
                return inputs
        raise _NoReference("TensorFlow rejected every input that was tried", needs_samples=True)

    def _inputs(self, base: Inputs, envelopes: Sequence[trial_inputs.Envelope]) -> Iterator[tuple[int, str, Inputs]]:
        for inputs in self._given:
            level = next(
                (n for n, each in enumerate(envelopes) if guarded.outside(ConversionGuard(dict(each)), inputs) is None),
                None,
            )
            if level is not None:
                yield level, SAMPLE, inputs
        if self._can_generate:
            yield from ((0, ORDINARY, inputs) for inputs in trial_inputs.ordinary(self._signature, envelopes[0]))
        else:
            yield from ((0, ORDINARY, inputs) for inputs in self._from_given(envelopes[0]))
        tiny = trial_inputs.tiny(base)
        if tiny is not None and guarded.outside(ConversionGuard(dict(envelopes[0])), tiny) is None:
            yield 0, TINY, tiny
        yield from ((0, ODD_TEXT, inputs) for inputs in trial_inputs.odd_texts(base))
        for level, envelope in enumerate(envelopes[1:], 1):
            yield from ((level, ORDINARY, inputs) for inputs in trial_inputs.varied(base, envelope, level))

    def _from_given(self, envelope: trial_inputs.Envelope) -> Iterator[Inputs]:
        for number, inputs in enumerate(self._given[:ENOUGH_SAMPLES]):
            if guarded.outside(ConversionGuard(dict(envelope)), inputs) is None:
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
            raise _NoReference("the model returns different numbers each time, so nothing can be compared")
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


def _is_number(spec: TensorSpec) -> bool:
    return DTYPES[spec.dtype].kind in ("int", "float")


def _is_finite(inputs: Inputs) -> bool:
    return all(is_exact(array) or bool(np.isfinite(array).all()) for array in inputs.values())
