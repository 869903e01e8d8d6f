"""OpenVINO: its own files, and those of others that it reads. The only module that imports it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from tfserve.errors import Invalid, Overloaded, TFserveError, Unsupported
from tfserve.models import formats
from tfserve.models.formats import Located
from tfserve.runtimes import layout, machine, onnx_quantization, saved_model_file
from tfserve.runtimes.interface import listed
from tfserve.runtimes.layout import Layout
from tfserve.runtimes.signature_only import SignatureOnly
from tfserve.tensors import DEFAULT_SIGNATURE, Array, Signature, TensorSpec

DTYPES = {
    "boolean": "bool",
    "f16": "float16",
    "f32": "float32",
    "f64": "float64",
    "i8": "int8",
    "i16": "int16",
    "i32": "int32",
    "i64": "int64",
    "u8": "uint8",
    "u16": "uint16",
    "u32": "uint32",
    "u64": "uint64",
}
"""OpenVINO's names of what can be given to it and taken from it as an array."""

_OTHER_TYPES = {
    "bf16": "bfloat16",
    "f4e2m1": "float4_e2m1fn",
    "f8e4m3": "float8_e4m3fn",
    "f8e5m2": "float8_e5m2",
    "f8e8m0": "float8_e8m0fnu",
    "i4": "int4",
    "u1": "uint1",
    "u4": "uint4",
}
"""Types that OpenVINO has but can't exchange, by their usual names."""

PRECISIONS = {"float32": "f32", "bf16": "bf16"}

_LOST_VARIABLE = "Cannot find requested variable"

WIDE = frozenset({"int64", "uint32", "uint64"})
_INT32 = np.iinfo(np.int32)


def load(model: Located, *, device: str, precision: str = "float32") -> OpenVinoModel:
    """Loads what OpenVINO reads. Raises `Invalid` with the cause, `Unsupported` for tensors that no array fits."""
    import openvino

    machine.check_cpu(device, "OpenVINO")
    if model.inputs or model.outputs:
        raise Unsupported("With inputs and outputs of its own a frozen graph needs the runtime tensorflow.")
    graph = read(openvino, model)
    _check_types(model, graph)
    found = layout.read(model.path) if model.format != formats.SAVED_MODEL else saved_model_layout(model, graph)
    names = found or _plain(model, graph)
    try:
        compiled = openvino.Core().compile_model(graph, "CPU", _settings(precision))
    except Exception as error:
        raise Invalid(f"{model.path} can't be compiled by OpenVINO: {told(error)}") from error
    ports = [_positions(each) for each in (graph.inputs, graph.outputs)]
    layout.check(names, model.path, *ports)
    return OpenVinoModel(model.format, compiled, names, *ports, was_converted=found is not None)


def read(openvino: Any, model: Located) -> Any:
    """The graph in a file or a SavedModel's folder, not compiled. Raises `Invalid`."""
    core = openvino.Core()
    # A file that is mapped into memory must not be written to while the model serves.
    core.set_property({"ENABLE_MMAP": False})
    try:
        return core.read_model(model.path)
    except Exception as error:
        if _LOST_VARIABLE in str(error):
            raise Invalid(
                f"{model.path} can't be read by OpenVINO: its saver has no value for a variable that a signature needs."
                " TensorFlow may find it in another copy of the variable. Install TensorFlow, which converts the model"
                " for OpenVINO; or save the model again, with model.export(folder) for a Keras model."
            ) from error
        raise Invalid(f"{model.path} can't be read by OpenVINO: {told(error)}") from error


def saved_model_layout(model: Located, graph: Any) -> Layout:
    """The signature of a SavedModel that OpenVINO has read. Raises `Invalid` when that is not what it has read."""
    signatures = saved_model_file.signatures(model.path)
    name = DEFAULT_SIGNATURE if DEFAULT_SIGNATURE in signatures or len(signatures) != 1 else next(iter(signatures))
    if name not in signatures:
        raise Invalid(f"{model.path} has no signature {DEFAULT_SIGNATURE!r}, which is the one that OpenVINO reads.")
    found = signatures[name]
    inputs, outputs = (
        _matched(model, *each) for each in ((found.inputs, graph.inputs), (found.outputs, graph.outputs))
    )
    return Layout(name, found, inputs, outputs)


def _plain(model: Located, graph: Any) -> Layout:
    """The model's own names. In a frozen graph `x:0` is called `x`, as it is with TensorFlow."""
    inputs, outputs = (list(map(_spec, ports)) for ports in (graph.inputs, graph.outputs))
    if model.format == formats.ONNX:
        inputs, outputs = (onnx_quantization.added(specs, model.path) for specs in (inputs, outputs))
    plain = layout.plain(inputs, outputs)
    if model.format != formats.FROZEN_GRAPH:
        return plain
    inputs, outputs = (
        [msgspec.structs.replace(spec, name=spec.name.removesuffix(":0")) for spec in specs]
        for specs in (inputs, outputs)
    )
    return msgspec.structs.replace(plain, signature=Signature(tuple(inputs), tuple(outputs)))


class OpenVinoModel(SignatureOnly):
    """A compiled model with one request, which is used again and again."""

    runtime = "openvino"
    can_reset_state = True

    def __init__(
        self, kind: str, compiled: Any, names: Layout, inputs: dict[str, int], outputs: dict[str, int],
        *, was_converted: bool,
    ) -> None:  # fmt: skip
        import openvino

        super().__init__(kind, {names.name: names.signature}, was_converted=was_converted)
        self._input_at = {name: inputs[own] for name, own in names.own_inputs.items()}
        self._output_at = {name: outputs[own] for name, own in names.own_outputs.items()}
        self._wide = {spec.name for spec in names.signature.inputs if spec.dtype in WIDE}
        self._openvino = openvino
        self._compiled = compiled
        self._use(compiled.create_infer_request())
        self.is_stateful = bool(self._request.query_state())

    def changes_state(self, outputs: Sequence[str], signature: str) -> bool:  # noqa: ARG002 - all of it is computed
        return self.is_stateful

    def reset_state(self) -> None:
        self._request.reset_state()

    def release_memory(self) -> None:
        """A request keeps the memory of its largest inputs, so a new one takes its place."""
        if not self.is_stateful:
            self._use(self._compiled.create_infer_request())
            self._compiled.release_memory()

    def _use(self, request: Any) -> None:
        self._request = request
        # What InferRequest.infer adds to this is to guess the types of its arguments: 30 µs against 12.
        self._infer = super(self._openvino.InferRequest, request).infer  # type: ignore[misc]

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str], signature: str) -> list[Array | None]:  # noqa: ARG002
        for name in self._wide:
            _check_width(name, inputs[name])
        try:
            given = {self._input_at[name]: self._openvino.Tensor(_own(array), True) for name, array in inputs.items()}
            # Not shared: the next run writes to the same memory, while these are still being sent.
            values = list(self._infer(given, False, False).values())
        except Exception as error:
            raise _failure(error) from error
        return [values[self._output_at[name]] for name in outputs]


def _own(array: Array) -> Array:
    """OpenVINO takes the memory of an array without a copy only if it could write to it, which it does not."""
    return array if array.flags.writeable and array.flags.c_contiguous else np.array(array, order="C")


def _check_width(name: str, array: Array) -> None:
    """OpenVINO computes whole numbers with 32 bits on a processor, and would cut off the rest in silence."""
    if array.size and (array.max() > _INT32.max or array.min() < _INT32.min):
        raise Invalid(
            f"Input {name!r} has a number beyond 32 bits, which OpenVINO can't compute with exactly. Use smaller"
            " numbers, or deploy the model with another runtime."
        )


def _settings(precision: str) -> dict[str, Any]:
    return {
        # Without it OpenVINO computes with fewer bits where it can, and finds other classes.
        "INFERENCE_PRECISION_HINT": PRECISIONS[precision],
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": machine.cores(),
        # Two models that hold on to the same cores would wait for each other while others are free.
        "ENABLE_CPU_PINNING": False,
    }


def _check_types(model: Located, graph: Any) -> None:
    specs = [_spec(port) for port in (*graph.inputs, *graph.outputs)]
    if strange := [spec for spec in specs if spec.dtype not in DTYPES.values()]:
        raise Unsupported(
            f"{model.path} has the tensor {strange[0].name!r} of {strange[0].dtype}, which can't be given to or taken"
            f" from OpenVINO. It exchanges {', '.join(DTYPES.values())}."
        )


def _spec(port: Any) -> TensorSpec:
    shape = port.partial_shape
    sizes = None if shape.rank.is_dynamic else tuple(-1 if size.is_dynamic else size.get_length() for size in shape)
    kind = port.element_type.get_type_name()
    return TensorSpec(_names(port)[0], DTYPES.get(kind) or _OTHER_TYPES.get(kind, kind), sizes)


def _names(port: Any) -> list[str]:
    """All names of a tensor, the shortest first; one without any is called by its operation."""
    return sorted(port.get_names(), key=lambda name: (len(name), name)) or [port.get_node().get_friendly_name()]


def _positions(ports: Sequence[Any]) -> dict[str, int]:
    return {name: position for position, port in enumerate(ports) for name in _names(port)}


def _matched(model: Located, specs: Sequence[TensorSpec], ports: Sequence[Any]) -> tuple[str, ...]:
    """The graph's own name for each spec. An output that has an input's name gets another one there."""
    positions = _positions(ports)
    lost = [spec.name for spec in specs if spec.name not in positions]
    taken = {positions[spec.name] for spec in specs if spec.name in positions}
    left = [position for position in range(len(ports)) if position not in taken]
    if len(lost) > 1 or len(lost) > len(left):
        raise Invalid(f"OpenVINO reads {model.path}, but without {listed(lost)} of its signature.")
    return tuple(spec.name if spec.name in positions else _names(ports[left[0]])[0] for spec in specs)


def _failure(error: Exception) -> TFserveError:
    message = f"OpenVINO could not compute this: {told(error)}"
    return Overloaded(message) if isinstance(error, MemoryError) or "bad_alloc" in str(error) else Invalid(message)


def told(error: Exception) -> str:
    """What OpenVINO says, without the places in its source."""
    lines = [line.strip() for line in str(error).splitlines()]
    noise = ("Exception from", "Check '", "FrontEnd API", "Summary:", "To facilitate", "Model wasn't")
    words = [line for line in lines if line and not line.startswith(noise)] or [line for line in lines if line]
    return " ".join(words[:2])[:500].rstrip(". :") + "." if words else f"{type(error).__name__}."
