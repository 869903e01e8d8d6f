"""Runs ONNX files with ONNX Runtime. The only module that imports it."""

from __future__ import annotations

import contextlib
import copy
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace

from tfserve.errors import Invalid, Overloaded, TFserveError, Unsupported
from tfserve.models import contents
from tfserve.models.formats import ONNX, Located
from tfserve.runtimes import concurrent, layout, machine, onnx_bfloat16, onnx_quantization, onnx_recurrent
from tfserve.runtimes.error_summary import cause
from tfserve.runtimes.layout import Layout
from tfserve.runtimes.signature_only import SignatureOnly
from tfserve.runtimes.unchanged import ModelFiles
from tfserve.tensors.dtypes import DTYPES, OTHER_ONNX
from tfserve.tensors.specs import Array, TensorSpec

TYPES = {dtype.onnx: name for name, dtype in DTYPES.items()}

_FROM_ZIPMAP = ". For a tensor of all probabilities, convert the classifier with options={'zipmap': False}"
_TENSOR = re.compile(r"tensor\((\w+)\)")
_HINTS = {
    "Unsupported model IR version": "Update onnxruntime, or export the model for an older version of ONNX.",
    "is under development and support for this is limited": "Export the model for an older opset.",
    "Failed to construct locale": (
        "It changes the case of text, for which this machine needs the locale en_US.UTF-8:"
        " apt-get install locales && localedef -i en_US -f UTF-8 en_US.UTF-8"
    ),
    "External data path": "Its weights are in a separate file: copy it into the model's folder.",
}

_ERRORS_ONLY = 3
MAX_OPTIONAL = 32
"""A file with more inputs that have a default was exported with its weights as inputs."""


def load(model: Located, *, device: str) -> OnnxModel:
    """Loads an ONNX file. Raises `Invalid` with the cause, `Unsupported` for inputs that are not tensors."""
    import onnxruntime

    machine.check_cpu(device, "ONNX Runtime")
    files = ModelFiles(model.path)
    session = _session(onnxruntime, model.path, machine.cores())
    any_shape = _tensors_without_rank(model, session)
    if strange := [each for each in session.get_inputs() if each.type not in TYPES]:
        problem = f"{model.path} has the unsupported input {strange[0].name!r}, {_what(strange[0])}"
        raise Unsupported(f"{problem}. Export it with tensors of numbers or text as inputs.")
    known_elsewhere = _rows_elsewhere(session)
    inputs = [_spec(each, any_shape) for each in session.get_inputs()]
    # Classifiers made by other libraries also have lists of maps as outputs, which can't be fetched.
    outputs = [_spec(each, any_shape) for each in session.get_outputs() if each.type in TYPES]
    strange = [each for each in session.get_outputs() if each.type not in TYPES]
    if not outputs:
        problem = f"output {strange[0].name!r} is {_what(strange[0])}" if strange else "it has no outputs"
        raise Unsupported(
            f"{model.path} has no output that can be returned: {problem}. Export it with tensors as outputs."
        )
    found = layout.read(model.path)
    inputs, outputs = (onnx_quantization.added(specs, model.path) for specs in (inputs, outputs))
    inputs, outputs = (
        [replace(spec, rows_elsewhere=spec.name in known_elsewhere) for spec in specs] for specs in (inputs, outputs)
    )
    names = found or layout.plain(inputs, outputs, optional=_with_default(session))
    layout.check(names, model.path, {each.name: each for each in inputs}, {each.name: each for each in outputs})
    remarks = [f"output {each.name!r} is not available: it is {_what(each)}" for each in strange]
    loaded = OnnxModel(model.format, session, names, remarks, was_converted=found is not None)
    loaded.path, loaded.files = model.path, files
    loaded.never_empty = onnx_recurrent.inputs_before(model.path)
    return loaded


class OnnxModel(SignatureOnly):
    """A session of ONNX Runtime, and the names of a signature."""

    runtime = "onnxruntime"
    is_shareable = True
    path: Path
    #: as they were when the model was loaded
    files: ModelFiles
    #: tensors in the file that would end the process if they were empty
    never_empty: frozenset[str] = frozenset()

    def __init__(self, kind: str, session: Any, names: Layout, remarks: list[str], *, was_converted: bool) -> None:
        super().__init__(kind, {names.name: names.signature}, was_converted=was_converted)
        self.remarks = remarks
        self._run = onnx_bfloat16.BFloat16Run(session) if onnx_bfloat16.is_used(session) else session.run
        self._names = [each.name for each in session.get_outputs()]
        self._smallest: dict[str, Array] = {}
        self._smallest_bytes, self._largest_bytes = sys.maxsize, 0
        self._own_inputs = names.own_inputs
        self._own_outputs = names.own_outputs
        self._texts = {spec.name for spec in names.signature.outputs if spec.dtype == "string"}

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str], signature: str) -> list[Array | None]:  # noqa: ARG002
        own = self._own_inputs
        if self.never_empty:
            onnx_recurrent.check({name: each for name, each in inputs.items() if own.get(name) in self.never_empty})
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

    def narrowed(self, computations: int) -> OnnxModel:
        """Has its own copy of the weights."""
        import onnxruntime

        self.files.check()
        session = _session(onnxruntime, self.path, concurrent.share(computations))
        self.files.check()
        twin = copy.copy(self)
        twin._run = onnx_bfloat16.BFloat16Run(session) if onnx_bfloat16.is_used(session) else session.run
        return twin

    def _keep(self, given: Mapping[str, Array]) -> None:
        size_bytes = sum(array.nbytes for array in given.values())
        self._largest_bytes = max(self._largest_bytes, size_bytes)
        if size_bytes < self._smallest_bytes:
            self._smallest_bytes = size_bytes
            self._smallest = {name: array.copy() for name, array in given.items()}

    def release_memory(self) -> None:
        """The arena shrinks only after a run, so the smallest inputs so far are computed once more."""
        if self._largest_bytes > self._smallest_bytes:
            with contextlib.suppress(Exception):
                self._run(self._names[:1], self._smallest, _shrinking())
            self._largest_bytes = self._smallest_bytes


def _shrinking() -> Any:
    import onnxruntime

    options = onnxruntime.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options


def _session(onnxruntime: Any, path: Path, threads: int) -> Any:
    """Raises `Invalid` if the file can't be loaded."""
    options = _options(onnxruntime, threads)
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise Invalid(f"{path} can't be loaded by ONNX Runtime: {_cause(error)}") from error


def _options(onnxruntime: Any, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    # Threads that spin while waiting for work take CPU time from the web processes that bring it.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _rows_elsewhere(session: Any) -> frozenset[str]:
    """Tensors whose first dimension does not count examples, as the names of the dimensions show: [time, batch, 4]."""
    given, returned = session.get_inputs(), session.get_outputs()
    rows = {size for each in given for size in each.shape[:1] if isinstance(size, str)}
    others = {size for each in given for size in each.shape[1:] if isinstance(size, str)} - rows
    return frozenset(
        each.name
        for each in (*given, *returned)
        if each.shape and each.shape[0] not in rows and (each.shape[0] in others or rows.intersection(each.shape[1:]))
    )


def _with_default(session: Any) -> list[TensorSpec]:
    """Inputs that need not be set, because an initializer of the same name has their default."""
    found = [_spec(each, ()) for each in session.get_overridable_initializers() if each.type in TYPES]
    return found if len(found) <= MAX_OPTIONAL else []


def _tensors_without_rank(model: Located, session: Any) -> frozenset[str]:
    """Tensors of any shape, which ONNX Runtime describes like scalars: only the file shows the difference."""
    if model.format != ONNX or all(each.shape for each in (*session.get_inputs(), *session.get_outputs())):
        return frozenset()
    return contents.onnx_tensors_without_rank(model.path)


def _what(tensor: Any) -> str:
    """Describes a value that has no numpy array: a tensor by its numpy type, anything else by its ONNX type."""
    if (match := _TENSOR.fullmatch(tensor.type)) is None:
        return f"not a tensor but a {tensor.type}" + (_FROM_ZIPMAP if tensor.type.startswith("seq(map(") else "")
    return f"a tensor of {OTHER_ONNX.get(match[1], match[1])}"


def _spec(tensor: Any, any_shape: Collection[str]) -> TensorSpec:
    """Sizes without a number are symbols or None."""
    if tensor.name in any_shape and not tensor.shape:
        return TensorSpec(tensor.name, TYPES[tensor.type], None)
    shape = tuple(size if isinstance(size, int) and size >= 0 else -1 for size in tensor.shape)
    return TensorSpec(tensor.name, TYPES[tensor.type], shape)


def _given(array: Array) -> Array:
    """Strings must be str, so bytes that are not text can't be given."""
    if array.dtype != object:
        return array
    texts = np.empty(array.size, dtype=object)
    try:
        texts[:] = [each.decode() for each in array.ravel()]
    except UnicodeDecodeError as error:
        raise Invalid(f"ONNX Runtime accepts only UTF-8 text: {error}") from error
    return texts.reshape(array.shape)


def _octets(value: Any) -> Array:
    array = np.empty(value.size, dtype=object)
    array[:] = [each.encode() for each in value.ravel()]
    return array.reshape(value.shape)


def _failure(error: Exception) -> TFserveError:
    if isinstance(error, TFserveError):
        return error
    message = f"ONNX Runtime could not run the model on these inputs: {_cause(error)}"
    return Overloaded(message) if "allocate memory" in str(error) else Invalid(message)


def _cause(error: Exception) -> str:
    found = cause(error)
    return f"{found}. {next((hint for sign, hint in _HINTS.items() if sign in found), '')}".rstrip()
