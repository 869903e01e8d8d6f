"""Runs OpenVINO's own files and the other formats that it reads. The only module that imports it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from tfserve.errors import Invalid, Overloaded, TFserveError, Unsupported
from tfserve.models import formats
from tfserve.models.formats import Located
from tfserve.runtimes import concurrent, layout, machine, onnx_quantization, saved_model_file
from tfserve.runtimes.error_summary import cause
from tfserve.runtimes.interface import listed
from tfserve.runtimes.layout import Layout
from tfserve.runtimes.signature_only import SignatureOnly
from tfserve.runtimes.unchanged import ModelFiles
from tfserve.tensors.dtypes import DTYPES, OTHER_OPENVINO
from tfserve.tensors.specs import DEFAULT_SIGNATURE, Array, Signature, TensorSpec

TYPES = {dtype.openvino: name for name, dtype in DTYPES.items() if dtype.openvino}

PRECISIONS = {"float32": "f32", "bf16": "bf16"}

_LOST_VARIABLE = "Cannot find requested variable"

WIDE = frozenset({"int64", "uint32", "uint64"})
_INT32 = np.iinfo(np.int32)


def load(model: Located, *, device: str, precision: str = "float32") -> OpenVinoModel:
    """Loads a model. Raises `Invalid` with the cause, `Unsupported` for tensors of a type that numpy lacks."""
    import openvino

    machine.check_cpu(device, "OpenVINO")
    if model.inputs or model.outputs:
        raise Unsupported("A frozen graph with inputs and outputs set needs the runtime tensorflow.")
    files = ModelFiles(model.path)
    graph = read(openvino, model)
    _check_types(model, graph)
    found = layout.read(model.path) if model.format != formats.SAVED_MODEL else saved_model_layout(model, graph)
    names = found or _plain(model, graph)
    compiled = _compiled(openvino, model, graph, _settings(precision))
    ports = [_positions(each) for each in (graph.inputs, graph.outputs)]
    layout.check(names, model.path, *ports)

    def compile_again(streams: int) -> Any:
        files.check()
        graph = read(openvino, model)
        files.check()
        return _compiled(openvino, model, graph, {**_settings(precision), "NUM_STREAMS": streams})

    loaded = OpenVinoModel(model.format, compiled, names, *ports, was_converted=found is not None)
    loaded.compile_again = compile_again
    return loaded


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
                f"{model.path} can't be read by OpenVINO: its checkpoint has no value for a variable that a signature"
                " needs. TensorFlow may find it in another copy of the variable. Install TensorFlow, which converts the"
                " model for OpenVINO; or save the model again, with model.export(folder) for a Keras model."
            ) from error
        raise Invalid(f"{model.path} can't be read by OpenVINO: {cause(error)}.") from error


def saved_model_layout(model: Located, graph: Any) -> Layout:
    """The signature of a SavedModel that OpenVINO has read. Raises `Invalid` when OpenVINO read something else."""
    signatures = saved_model_file.signatures(model.path)
    name = DEFAULT_SIGNATURE if DEFAULT_SIGNATURE in signatures or len(signatures) != 1 else next(iter(signatures))
    if name not in signatures:
        raise Invalid(f"{model.path} has no signature {DEFAULT_SIGNATURE!r}, the only one that OpenVINO reads.")
    found = signatures[name]
    if found.optional:
        raise Unsupported(
            f"Input {found.optional[0].name!r} of {model.path} has a default value, which only TensorFlow supports."
        )
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
    """A compiled model with one reused inference request."""

    runtime = "openvino"
    can_reset_state = True
    is_shareable = False
    #: compiles the model for a number of computations at a time. Raises `Invalid` if its files have changed
    compile_again: Callable[[int], Any]

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
        """A request keeps the memory of its largest inputs, so a new one replaces it."""
        if not self.is_stateful:
            self._use(self._compiled.create_infer_request())
            self._compiled.release_memory()

    def narrowed(self, computations: int) -> concurrent.ModelCopies:
        """A second compiled model, with a stream for each computation. They share its weights."""
        compiled = self.compile_again(computations)
        return concurrent.ModelCopies([self._on(compiled) for _ in range(computations)])

    def _on(self, compiled: Any) -> OpenVinoModel:
        twin = copy.copy(self)
        twin._compiled = compiled
        twin._use(compiled.create_infer_request())
        return twin

    def _use(self, request: Any) -> None:
        self._request = request
        # InferRequest.infer would also guess the types of its arguments: 30 µs instead of 12.
        self._infer = super(self._openvino.InferRequest, request).infer  # type: ignore[misc]

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str], signature: str) -> list[Array | None]:  # noqa: ARG002
        for name in self._wide:
            _check_width(name, inputs[name])
        try:
            given = {self._input_at[name]: self._openvino.Tensor(_own(array), True) for name, array in inputs.items()}
            # Copies: the next run writes to the same memory while these are still being sent.
            values = list(self._infer(given, False, False).values())
        except Exception as error:
            raise _failure(error) from error
        return [values[self._output_at[name]] for name in outputs]


def _own(array: Array) -> Array:
    """OpenVINO uses the memory of an array without a copy only if it is writable, though it never writes to it."""
    return array if array.flags.writeable and array.flags.c_contiguous else np.array(array, order="C")


def _check_width(name: str, array: Array) -> None:
    """OpenVINO computes integers with 32 bits on a CPU, and would silently truncate larger ones."""
    if array.size and (array.max() > _INT32.max or array.min() < _INT32.min):
        raise Invalid(
            f"Input {name!r} has a number beyond 32 bits, which OpenVINO can't represent exactly. Use smaller"
            " numbers, or deploy the model with another runtime."
        )


def _compiled(openvino: Any, model: Located, graph: Any, settings: Mapping[str, Any]) -> Any:
    if _has_open_sizes(graph):
        # OpenVINO compiles attention into one kernel. After a request for a sequence of one element, it uses the kernel
        # for that length with longer ones too, and the results are wrong.
        settings = {**settings, "SNIPPETS_MODE": "DISABLE"}
    try:
        return openvino.Core().compile_model(graph, "CPU", dict(settings))
    except Exception as error:
        raise Invalid(f"{model.path} can't be compiled by OpenVINO: {cause(error)}.") from error


def _has_open_sizes(graph: Any) -> bool:
    """Whether a tensor has any open size but its first one, which is the number of rows."""
    shapes = [port.partial_shape for operation in graph.get_ops() for port in operation.outputs()]
    return any(shape.rank.is_dynamic or any(size.is_dynamic for size in list(shape)[1:]) for shape in shapes)


def _settings(precision: str) -> dict[str, Any]:
    return {
        # By default OpenVINO reduces the precision where it can, which changes predicted classes.
        "INFERENCE_PRECISION_HINT": PRECISIONS[precision],
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": machine.cores(),
        # Two models pinned to the same cores would wait for each other while other cores are idle.
        "ENABLE_CPU_PINNING": False,
    }


def _check_types(model: Located, graph: Any) -> None:
    specs = [_spec(port) for port in (*graph.inputs, *graph.outputs)]
    if strange := [spec for spec in specs if spec.dtype not in TYPES.values()]:
        raise Unsupported(
            f"{model.path} has the tensor {strange[0].name!r} of {strange[0].dtype}, which OpenVINO can't"
            f" accept or return. Supported: {', '.join(TYPES.values())}."
        )


def _spec(port: Any) -> TensorSpec:
    shape = port.partial_shape
    sizes = None if shape.rank.is_dynamic else tuple(-1 if size.is_dynamic else size.get_length() for size in shape)
    kind = port.element_type.get_type_name()
    return TensorSpec(_names(port)[0], TYPES.get(kind) or OTHER_OPENVINO.get(kind, kind), sizes)


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
        raise Invalid(f"OpenVINO reads {model.path}, but drops {listed(lost)} from its signature.")
    return tuple(spec.name if spec.name in positions else _names(ports[left[0]])[0] for spec in specs)


def _failure(error: Exception) -> TFserveError:
    message = f"OpenVINO could not run the model on these inputs: {cause(error)}."
    return Overloaded(message) if isinstance(error, MemoryError) or "bad_alloc" in str(error) else Invalid(message)
