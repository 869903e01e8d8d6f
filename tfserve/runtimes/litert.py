"""LiteRT files (`.tflite`). The only module that imports LiteRT's interpreter."""

from __future__ import annotations

import copy
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfserve.errors import Invalid, Overloaded, TFserveError
from tfserve.models.formats import Located
from tfserve.runtimes import concurrent, layout, litert_calls, litert_state, machine
from tfserve.runtimes.error_summary import cause
from tfserve.runtimes.signature_only import SignatureOnly
from tfserve.tensors.specs import DEFAULT_SIGNATURE, Array, Quantization, Signature, TensorSpec

_LACKS_OPERATION = re.compile(r"custom op|select TensorFlow op|unresolved", re.IGNORECASE)
_LONGEST_REPORT = 1 << 16
"""An interpreter with a longer error text is replaced, because it never discards any of it."""


def load(model: Located, *, device: str) -> LiteRtModel:
    """Loads a LiteRT file. Raises `Invalid` with the cause."""
    machine.check_cpu(device, "LiteRT")
    # From its bytes: a file that is mapped into memory must not be written to while the model serves.
    content = model.path.read_bytes()
    try:
        interpreter = _interpreter(content, machine.cores())
    except (ValueError, RuntimeError) as error:
        raise Invalid(
            f"{model.path} can't be loaded by LiteRT: {cause(error)}. It may be damaged, or need operations of"
            " TensorFlow ('select ops') or of a custom library, which LiteRT does not include."
        ) from error
    signatures = _signatures(interpreter)
    if (found := layout.read(model.path)) is not None:
        layout.check(found, model.path, *_names_of(signatures[found.name]))
        signatures = {found.name: found.signature}
    return LiteRtModel(model.format, content, interpreter, signatures, was_converted=found is not None)


class LiteRtModel(SignatureOnly):
    """An interpreter, with a function for each signature. All of its outputs are computed, whatever is fetched.

    Converted models are not stateful, because only stateless models are converted: the state that the converter made
    for their recurrent layers is reset before each call.
    """

    runtime = "litert"
    can_reset_state = True
    is_shareable = False

    def __init__(
        self, kind: str, content: bytes, interpreter: Any, signatures: dict[str, Signature], *, was_converted: bool
    ) -> None:
        super().__init__(kind, signatures, was_converted=was_converted)
        self._keeps = litert_state.find(content)
        self.is_stateful = bool(self._keeps) and not was_converted
        self._is_reset_before_each = bool(self._keeps) and was_converted
        self._content = content
        self._threads = machine.cores()
        self._smallest_bytes = self._largest_bytes = 0
        self._use(interpreter)

    def changes_state(self, outputs: Sequence[str], signature: str) -> bool:  # noqa: ARG002 - all of it is computed
        return self.is_stateful

    def reset_state(self) -> None:
        if self._keeps.variables:
            self._use(_interpreter(self._content, self._threads))
        else:
            self._interpreter.reset_all_variables()

    def release_memory(self) -> None:
        """An interpreter never releases the memory of its largest inputs, so a new one replaces it."""
        if not self.is_stateful and self._largest_bytes > self._smallest_bytes:
            self._use(_interpreter(self._content, self._threads))

    def narrowed(self, computations: int) -> concurrent.ModelCopies:
        """Each copy has an interpreter, with its own prepared weights."""
        return concurrent.ModelCopies([self._narrow(concurrent.share(computations)) for _ in range(computations)])

    def _narrow(self, threads: int) -> LiteRtModel:
        twin = copy.copy(self)
        twin._threads = threads
        try:
            twin._use(_interpreter(self._content, threads))
        except (ValueError, RuntimeError, MemoryError) as error:
            raise _failure(error, f"LiteRT could not copy the model: {cause(error)}.") from error
        return twin

    def _use(self, interpreter: Any) -> None:
        self._interpreter, self._computes = interpreter, litert_calls.computes(interpreter)
        self._reports = litert_calls.Reports()
        self._smallest_bytes, self._largest_bytes = sys.maxsize, 0

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str], signature: str) -> list[Array | None]:
        size_bytes = sum(array.nbytes for array in inputs.values())
        self._smallest_bytes = min(self._smallest_bytes, size_bytes)
        self._largest_bytes = max(self._largest_bytes, size_bytes)
        try:
            if self._is_reset_before_each:
                self.reset_state()
            values = self._computes[signature](**inputs)
        except Exception as error:
            message = f"LiteRT could not run the model on these inputs: {cause(self._reports.last(error))}."
            self._shorten_reports()
            raise _failure(error, message) from error
        return [values[name] for name in outputs]

    def _shorten_reports(self) -> None:
        if not self.is_stateful and self._reports.length > _LONGEST_REPORT:
            self._use(_interpreter(self._content, self._threads))


def _interpreter(content: bytes, threads: int) -> Any:
    """A new one. Raises `ValueError`, `RuntimeError`."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content, num_threads=threads)
    try:
        interpreter.allocate_tensors()
    except RuntimeError as error:
        # An open size is 1 until a request says otherwise, which may be too small, for a convolution for example.
        has_open_sizes = any((each["shape_signature"] < 0).any() for each in interpreter.get_input_details())
        if not has_open_sizes or _LACKS_OPERATION.search(str(error)):
            raise
    return interpreter


def _signatures(interpreter: Any) -> dict[str, Signature]:
    names = interpreter.get_signature_list()
    if not names:
        return {DEFAULT_SIGNATURE: _plain_signature(interpreter)}
    runners = {name: interpreter.get_signature_runner(name) for name in names}
    return {
        name: Signature(_specs(runner.get_input_details()), _specs(runner.get_output_details()))
        for name, runner in runners.items()
    }


def _plain_signature(interpreter: Any) -> Signature:
    """For a file without signatures, from an older converter: the tensors' own names."""
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    return Signature(_specs({each["name"]: each for each in inputs}), _specs({each["name"]: each for each in outputs}))


def _specs(details: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
    """`shape_signature` has -1 where `shape` has the size that is set now."""
    return tuple(
        TensorSpec(
            name, _dtype(each["dtype"]), tuple(int(size) for size in each["shape_signature"]), _quantization(each)
        )
        for name, each in sorted(details.items())
    )


def _quantization(detail: Mapping[str, Any]) -> Quantization | None:
    """None for a tensor that is not quantized. A zero point may be left out, which means 0."""
    parameters = detail.get("quantization_parameters") or {}
    scales = [float(scale) for scale in parameters.get("scales", ())]
    if not scales or not all(scales) or np.dtype(detail["dtype"]).kind not in "iu":
        return None
    zero_points = [int(point) for point in parameters.get("zero_points", ())] or [0] * len(scales)
    if len(scales) == 1:
        return Quantization(scales[0], zero_points[0])
    return Quantization(tuple(scales), tuple(zero_points), int(parameters.get("quantized_dimension", 0)))


def _dtype(kind: Any) -> str:
    dtype = np.dtype(kind)
    return "string" if dtype.kind in "SUO" else dtype.name


def _names_of(signature: Signature) -> tuple[dict[str, TensorSpec], dict[str, TensorSpec]]:
    return {each.name: each for each in signature.inputs}, {each.name: each for each in signature.outputs}


def _failure(error: Exception, message: str) -> TFserveError:
    return Overloaded(message) if isinstance(error, MemoryError) else Invalid(message)
