"""ONNX files, computed by ONNX Runtime. The only module that imports it."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from tfserve.errors import Invalid, Overloaded, TFserveError, Unsupported
from tfserve.models import contents
from tfserve.models.formats import ONNX, Located
from tfserve.runtimes import layout, machine, onnx_bfloat16, onnx_quantization
from tfserve.runtimes.layout import Layout
from tfserve.runtimes.signature_only import SignatureOnly
from tfserve.tensors import Array, TensorSpec

DTYPES = {
    onnx_bfloat16.TYPE: "bfloat16",
    "tensor(bool)": "bool",
    "tensor(double)": "float64",
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(int8)": "int8",
    "tensor(int16)": "int16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(string)": "string",
    "tensor(uint8)": "uint8",
    "tensor(uint16)": "uint16",
    "tensor(uint32)": "uint32",
    "tensor(uint64)": "uint64",
}
"""ONNX Runtime's names of what can be given to it and taken from it as an array."""

_TENSOR = re.compile(r"tensor\((\w+)\)")
_TYPES = {
    "float8e4m3fn": "float8_e4m3fn",
    "float8e4m3fnuz": "float8_e4m3fnuz",
    "float8e5m2": "float8_e5m2",
    "float8e5m2fnuz": "float8_e5m2fnuz",
    "float8e8m0": "float8_e8m0fnu",
    "float4e2m1": "float4_e2m1fn",
}
"""Types that ONNX Runtime has but can't exchange, by their usual names."""

_SOURCE = re.compile(r"/onnxruntime_src/.*\)\s(?=[A-Z])")
_HINTS = {
    "Unsupported model IR version": "Update onnxruntime, or export the model for an older version of ONNX.",
    "is under development and support for this is limited": "Export the model for an older opset.",
    "External data path": "Its weights are in a file of their own: copy that beside the model.",
}

_ERRORS_ONLY = 3


def load(model: Located, *, device: str) -> OnnxModel:
    """Loads an ONNX file. Raises `Invalid` with the cause, `Unsupported` for inputs that are no tensors."""
    import onnxruntime

    machine.check_cpu(device, "ONNX Runtime")
    try:
        session = onnxruntime.InferenceSession(
            str(model.path), _options(onnxruntime), providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        raise Invalid(f"{model.path} can't be loaded by ONNX Runtime: {_told(error)}") from error
    any_shape = _tensors_without_rank(model, session)
    if strange := [each for each in session.get_inputs() if each.type not in DTYPES]:
        raise Unsupported(f"{model.path} has the input {strange[0].name!r}, {_what(strange[0])}, which can't be given.")
    inputs = [_spec(each, any_shape) for each in session.get_inputs()]
    # Classifiers made by other libraries have lists of maps beside their tensors; those can't be fetched.
    outputs = [_spec(each, any_shape) for each in session.get_outputs() if each.type in DTYPES]
    strange = [each for each in session.get_outputs() if each.type not in DTYPES]
    if not outputs:
        told = f"output {strange[0].name!r} is {_what(strange[0])}" if strange else "it has no outputs"
        raise Unsupported(
            f"{model.path} has no output that can be returned: {told}. Export it with outputs of tensors."
        )
    found = layout.read(model.path)
    inputs, outputs = (onnx_quantization.added(specs, model.path) for specs in (inputs, outputs))
    names = found or layout.plain(inputs, outputs)
    layout.check(names, model.path, {each.name: each for each in inputs}, {each.name: each for each in outputs})
    remarks = [f"output {each.name!r} is left out: it is {_what(each)}" for each in strange]
    return OnnxModel(model.format, session, names, remarks, was_converted=found is not None)


class OnnxModel(SignatureOnly):
    """A session of ONNX Runtime, and the names of a signature."""

    runtime = "onnxruntime"

    def __init__(self, kind: str, session: Any, names: Layout, remarks: list[str], *, was_converted: bool) -> None:
        super().__init__(kind, {names.name: names.signature}, was_converted=was_converted)
        self.remarks = remarks
        self._run = onnx_bfloat16.Run(session) if onnx_bfloat16.is_used(session) else session.run
        self._names = [each.name for each in session.get_outputs()]
        self._smallest: dict[str, Array] = {}
        self._smallest_bytes, self._largest_bytes = sys.maxsize, 0
        self._own_inputs = names.own_inputs
        self._own_outputs = names.own_outputs
        self._texts = {spec.name for spec in names.signature.outputs if spec.dtype == "string"}

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str], signature: str) -> list[Array | None]:  # noqa: ARG002
        own = self._own_inputs
        given = {own[name]: _given(array) for name, array in inputs.items() if name in own}
        try:
            values: list[Array | None] = self._run([self._own_outputs[name] for name in outputs], given)
        except Exception as error:
            raise _failure(error) from error
        self._keep(given)
        if self._texts:
            return [
                _octets(value) if name in self._texts else value for name, value in zip(outputs, values, strict=True)
            ]
        return values

    def _keep(self, given: Mapping[str, Array]) -> None:
        size_bytes = sum(array.nbytes for array in given.values())
        self._largest_bytes = max(self._largest_bytes, size_bytes)
        if size_bytes < self._smallest_bytes:
            self._smallest_bytes = size_bytes
            self._smallest = {name: array.copy() for name, array in given.items()}

    def release_memory(self) -> None:
        """The arena shrinks only behind a run, so the smallest inputs that came so far are computed once more."""
        if self._largest_bytes > self._smallest_bytes:
            with contextlib.suppress(Exception):
                self._run(self._names[:1], self._smallest, _shrinking())
            self._largest_bytes = self._smallest_bytes


def _shrinking() -> Any:
    import onnxruntime

    options = onnxruntime.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options


def _options(onnxruntime: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = machine.cores()
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    # Threads that wait for work by spinning take the cores from web, which is to bring the work.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _tensors_without_rank(model: Located, session: Any) -> frozenset[str]:
    """Those that may have any shape, which ONNX Runtime describes like scalars: only the file tells them apart."""
    if model.format != ONNX or all(each.shape for each in (*session.get_inputs(), *session.get_outputs())):
        return frozenset()
    return contents.onnx_tensors_without_rank(model.path)


def _what(tensor: Any) -> str:
    """What something is that has no array of numpy's: in numpy's words where it is a tensor, else in ONNX's."""
    if (match := _TENSOR.fullmatch(tensor.type)) is None:
        return f"not a tensor but a {tensor.type}"
    return f"a tensor of {_TYPES.get(match[1], match[1])}"


def _spec(tensor: Any, any_shape: Collection[str]) -> TensorSpec:
    """Sizes without a number are symbols or None."""
    if tensor.name in any_shape and not tensor.shape:
        return TensorSpec(tensor.name, DTYPES[tensor.type], None)
    shape = tuple(size if isinstance(size, int) and size >= 0 else -1 for size in tensor.shape)
    return TensorSpec(tensor.name, DTYPES[tensor.type], shape)


def _given(array: Array) -> Array:
    """Strings are taken as str only, so bytes that are no text can't be given."""
    if array.dtype != object:
        return array
    texts = np.empty(array.size, dtype=object)
    try:
        texts[:] = [each.decode() for each in array.ravel()]
    except UnicodeDecodeError as error:
        raise Invalid(f"ONNX Runtime takes text in UTF-8 only; these bytes are not: {error}") from error
    return texts.reshape(array.shape)


def _octets(value: Any) -> Array:
    array = np.empty(value.size, dtype=object)
    array[:] = [each.encode() for each in value.ravel()]
    return array.reshape(value.shape)


def _failure(error: Exception) -> TFserveError:
    if isinstance(error, TFserveError):
        return error
    message = f"ONNX Runtime could not compute this: {_told(error)}"
    return Overloaded(message) if "allocate memory" in str(error) else Invalid(message)


def _told(error: Exception) -> str:
    """What ONNX Runtime says, without its number of the error."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    words = _SOURCE.sub("", lines[0].rpartition("[ONNXRuntimeError] : ")[2])[:500]
    hint = next((hint for sign, hint in _HINTS.items() if sign in words), "")
    return f"{words.rstrip('. ')}. {hint}" if hint else words
