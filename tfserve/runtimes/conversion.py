"""Converts SavedModels to files for other runtimes, keeping the names, types and order of one signature.

Converters are third-party programs that may fail, crash or hang, so each runs in its own process (see
`tfserve.worker.trials.runtime_trial`).
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tfserve.errors import Unsupported, nearest
from tfserve.models import formats
from tfserve.models.formats import Located
from tfserve.runtimes import layout, need
from tfserve.runtimes.layout import Layout
from tfserve.tensors.specs import DEFAULT_SIGNATURE, Signature, TensorSpec

log = logging.getLogger(__name__)


def signature_of(signatures: dict[str, Signature]) -> str:
    """The signature that is converted: the default one, or the only one. Raises `Unsupported`."""
    if DEFAULT_SIGNATURE not in signatures and len(signatures) != 1:
        raise Unsupported(
            f"The model has no signature {DEFAULT_SIGNATURE!r} but {len(signatures)} others, so the choice is"
            " ambiguous."
        )
    name = DEFAULT_SIGNATURE if DEFAULT_SIGNATURE in signatures else next(iter(signatures))
    if part := next((spec for spec in signatures[name].inputs if spec.part), None):
        raise Unsupported(f"Input {part.name!r} is part of a ragged or sparse tensor, which only TensorFlow accepts.")
    if optional := signatures[name].optional:
        raise Unsupported(f"Input {optional[0].name!r} has a default value, which only TensorFlow supports.")
    return name


def convert(candidate: str, saved_model: Path, name: str, signature: Signature, *, precision: str, to: Path) -> Path:
    """Writes the signature `name` of a SavedModel as a file for `candidate` into the folder `to`, and returns its path.

    If a converter can't load the model, it gets a frozen graph instead. Raises `Unsupported` when the candidate has no
    converter or it is not installed, else whatever the converter raises.
    """
    if candidate not in CONVERTERS:
        raise Unsupported(f"No converter for {candidate!r}{nearest(candidate, CONVERTERS)}.")
    to.mkdir(parents=True)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # converters print every variable of a model
            file, own = _convert(CONVERTERS[candidate], saved_model, name, signature, to, precision)
    except ModuleNotFoundError as error:
        raise Unsupported(need(error) or f"{error.name} is not installed.") from error
    layout.write(file, Layout(name, signature, *own))
    return file


def _convert(
    converter: _Converter, saved_model: Path, name: str, signature: Signature, to: Path, precision: str
) -> tuple[Path, _Names]:
    try:
        return converter(saved_model, name, signature, to, precision)
    except ModuleNotFoundError:
        raise
    except Exception as error:
        log.debug("%s can't be converted as it is", saved_model, exc_info=True)
        first = error
    with tempfile.TemporaryDirectory(dir=to.parent, prefix="frozen-") as folder:
        graph = Path(folder) / "saved_model"
        try:
            freeze(saved_model, name, graph)
            return converter(graph, name, signature, to, precision)
        except Exception as error:
            log.debug("nor as a frozen graph", exc_info=True)
            raise first from error


def freeze(saved_model: Path, name: str, folder: Path) -> None:
    """Writes the signature `name` of `saved_model`, with the weights in its graph, as a SavedModel into `folder`.

    Converters load a SavedModel as Python objects, and fail if the class of an object is missing, such as an optimizer
    or a custom layer. Serving needs only the graph and a session. Raises what TensorFlow raises.
    """
    import tensorflow as tf

    from tfserve.runtimes import frozen_graph, tensorflow

    loaded = tensorflow.load(Located(formats.SAVED_MODEL, saved_model, None), device="/cpu:0")
    try:
        graph, inputs, outputs = loaded.freeze(name)
    finally:
        loaded.close()
    with tf.Graph().as_default() as new:
        tf.graph_util.import_graph_def(graph, name="")
        sides = [{each: new.get_tensor_by_name(tensor) for each, tensor in side.items()} for side in (inputs, outputs)]
        frozen_graph.save(tf, new, inputs=sides[0], outputs=sides[1], folder=folder, signature=name)


_Names = tuple[tuple[str, ...], tuple[str, ...]]
"""The file's own names of the signature's inputs and outputs, in order."""
_Converter = Callable[[Path, str, Signature, Path, str], tuple[Path, _Names]]


def _openvino(saved_model: Path, name: str, signature: Signature, to: Path, precision: str) -> tuple[Path, _Names]:  # noqa: ARG001 - chosen when it is loaded
    """OpenVINO reads the files itself; TensorFlow is not needed."""
    import openvino

    from tfserve.runtimes import openvino as reader

    located = Located(formats.SAVED_MODEL, saved_model, None)
    graph = reader.read(openvino, located)
    found = reader.saved_model_layout(located, graph)
    file = to / "model.xml"
    openvino.save_model(graph, file, compress_to_fp16=False)
    return file, (found.inputs, found.outputs)


def _litert(saved_model: Path, name: str, signature: Signature, to: Path, precision: str) -> tuple[Path, _Names]:
    import ai_edge_litert  # noqa: F401 - before the work is done for nothing
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved_model), signature_keys=[name])
    if precision == "int8":
        # Dynamic quantization: weights have 8 bits, activations are quantized at run time, so no examples are needed.
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    file = to / "model.tflite"
    file.write_bytes(converter.convert())
    return file, _own(signature)


def _onnx(saved_model: Path, name: str, signature: Signature, to: Path, precision: str) -> tuple[Path, _Names]:  # noqa: ARG001 - there is one only
    import onnxruntime  # noqa: F401 - before the work is done for nothing
    import tensorflow as tf
    import tf2onnx

    loaded = tf.saved_model.load(str(saved_model))
    # Our own names, because a graph may not allow those of the signature.
    inputs = {f"input_{n:03}": spec for n, spec in enumerate(signature.inputs)}
    outputs = {f"output_{n:03}": spec for n, spec in enumerate(signature.outputs)}
    specs = [tf.TensorSpec(_sizes(spec), spec.dtype, name=own) for own, spec in inputs.items()]
    function = tf.function(_renamed(loaded.signatures[name], list(inputs.values()), outputs), input_signature=specs)
    file = to / "model.onnx"
    graph = tf2onnx.convert.from_function(function, input_signature=specs, output_path=str(file))[0].graph
    there = {each.name for each in graph.input}
    if weights := there - inputs.keys():
        raise Unsupported(f"The converter left {len(weights)} of the model's weights out of the file.")
    return file, (tuple(own if own in there else "" for own in inputs), tuple(outputs))


CONVERTERS: dict[str, _Converter] = {
    "openvino": _openvino,
    "litert": _litert,
    "onnxruntime": _onnx,
}


def _own(signature: Signature) -> _Names:
    """For converters that keep the names."""
    return tuple(spec.name for spec in signature.inputs), tuple(spec.name for spec in signature.outputs)


def _renamed(
    function: Callable[..., Any], inputs: Sequence[TensorSpec], outputs: dict[str, TensorSpec]
) -> Callable[..., dict[str, Any]]:
    """A signature's function with its arguments in order and its results by other names."""

    def call(*values: Any) -> dict[str, Any]:
        results = function(**{spec.name: value for spec, value in zip(inputs, values, strict=True)})
        return {own: results[spec.name] for own, spec in outputs.items()}

    return call


def _sizes(spec: TensorSpec) -> list[int | None] | None:
    return None if spec.shape is None else [None if size == -1 else size for size in spec.shape]
