"""What TensorFlow says: inputs and its outputs for them, kept in a file for those who are compared with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from tfserve.errors import Invalid, TFserveError
from tfserve.ipc.predictions import Tensor, to_array, to_tensor
from tfserve.runtimes.interface import Runtime
from tfserve.tensors import Array, Signature
from tfserve.worker import trial_inputs
from tfserve.worker.agreement import Difference, compare
from tfserve.worker.trial_inputs import Inputs

FILE = "reference.msgpack"
MAX_CASES = 40
MAX_BYTES = 256 * 1024 * 1024
"""Of all inputs and outputs together."""


class Case(msgspec.Struct, array_like=True, frozen=True):
    """`outputs` are None when TensorFlow refuses the inputs."""

    inputs: dict[str, Tensor]
    outputs: tuple[Tensor, ...] | None

    def arrays(self) -> Inputs:
        return {name: to_array(tensor) for name, tensor in self.inputs.items()}

    def expected(self) -> list[Array] | None:
        return None if self.outputs is None else [to_array(tensor) for tensor in self.outputs]


class Reference(msgspec.Struct, frozen=True):
    """A signature called `name` of a SavedModel, and what it computes. `problem` says why there are no cases."""

    saved_model: str
    name: str
    signature: Signature
    cases: list[Case] = []
    problem: str = ""

    def write(self, folder: Path) -> None:
        (folder / FILE).write_bytes(msgspec.msgpack.encode(self))

    @classmethod
    def read(cls, folder: Path) -> Reference:
        """Raises `Invalid` when TensorFlow has not been here."""
        try:
            return msgspec.msgpack.decode((folder / FILE).read_bytes(), type=cls)
        except FileNotFoundError:
            raise Invalid(f"{folder} has no {FILE}: the first candidate to convert for is tensorflow.") from None

    def timed(self) -> dict[int, Inputs]:
        """Inputs to measure times with, by their number of examples, the fewest first."""
        by_rows: dict[int, Inputs] = {}
        for case in self.cases:
            if case.outputs is not None:
                arrays = case.arrays()
                rows = next((array.shape[0] for array in arrays.values() if array.ndim), 1)
                by_rows.setdefault(rows, arrays)
        wanted = [rows for rows in trial_inputs.TIMED_ROWS if rows in by_rows] or sorted(by_rows)[:1]
        return {rows: by_rows[rows] for rows in wanted}


def make(runtime: Runtime, saved_model: Path, name: str, samples: Sequence[bytes]) -> Reference:
    """Computes the outputs of all inputs that there are. What TensorFlow refuses is remembered if it means it."""
    signature = runtime.signatures[name]
    cases: list[Case] = []
    size_bytes = 0
    problem = trial_inputs.why_not(signature)
    for spread, inputs in _inputs(name, signature, samples, can_make_up=not problem):
        case = _case(runtime, name, signature, inputs)
        if case is None:
            problem = "the model gives other numbers each time, so nothing can be compared"
            return Reference(str(saved_model), name, signature, problem=problem)
        # Whole numbers out of range are refused by TensorFlow alone; a refusal of floats is a check of the model's own.
        if case.outputs is None and (spread == "wide" or not _has_floats(signature)):
            continue
        cases.append(case)
        size_bytes += sum(len(tensor.data) for tensor in (*case.inputs.values(), *(case.outputs or ())))
        if len(cases) == MAX_CASES or size_bytes > MAX_BYTES:
            break
    if not any(case.outputs is not None for case in cases):
        cases, problem = [], problem or "TensorFlow refuses every input that was made up"
    return Reference(str(saved_model), name, signature, cases, "" if cases else problem)


def _inputs(
    name: str, signature: Signature, samples: Sequence[bytes], *, can_make_up: bool
) -> Iterator[tuple[str, Inputs]]:
    for inputs in trial_inputs.from_samples(name, signature, samples):
        yield "sample", inputs
    if can_make_up:
        yield from trial_inputs.made_up(signature)


def _case(runtime: Runtime, name: str, signature: Signature, inputs: Inputs) -> Case | None:
    """None when TensorFlow does not agree with itself."""
    names = [spec.name for spec in signature.outputs]
    tensors = {each: to_tensor(array) for each, array in inputs.items()}
    try:
        first, second = compute(runtime, inputs, names, name), compute(runtime, inputs, names, name)
    except TFserveError:
        return Case(tensors, None)
    found = Difference()
    compare(found, names, second, first)
    return None if found.problem else Case(tensors, tuple(map(to_tensor, first)))


def compute(runtime: Runtime, inputs: Inputs, names: Sequence[str], signature: str) -> list[Array]:
    """All outputs of a signature. Raises what the runtime raises."""
    return [output for output in runtime.run(inputs, names, signature) if output is not None]


def _has_floats(signature: Signature) -> bool:
    return any("float" in spec.dtype for spec in signature.inputs)
