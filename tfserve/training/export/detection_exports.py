"""The exports of a detector, each compared with the original on held-out images.

All have the outputs `boxes`, `scores`, `labels` and `count` of `detector.detections`: decoding and the removal of
duplicates are a part of the model. An export agrees when nearly all boxes of the original are found in its outputs
with the same class, and the other way round.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfserve.runtimes import image_metadata
from tfserve.tensors.specs import Array
from tfserve.training.dataset.decoded_images import Store
from tfserve.training.dataset.splitting import spread
from tfserve.training.export import exports, graph_images, held_out_images, signatures
from tfserve.training.export.constant_model import ConstantModel
from tfserve.training.export.exports import Export, ExportTolerance
from tfserve.training.export.litert_metadata import with_metadata
from tfserve.training.fit.detector import as_function
from tfserve.training.recipes.run import RecipeRun
from tfserve.training.report.detection_metrics import iou

NAMES = ("boxes", "scores", "labels", "count")
MAX_TRIED = 16
EXPORTS_S = (30.0, 10.0, 25.0, 10.0)
"""For each of `exports.STAGES`."""
CLEAR = 0.3
"""Boxes with a lower score are not compared: a tiny difference decides whether they are there at all."""
SAME_IOU, SAME_IOU_QUANTIZED = 0.8, 0.5
"""Eight bits move the sides of boxes by a few percent; what matters then is whether mAP50 would change."""
EXACT, DECODED, QUANTIZED = ExportTolerance(0.97, 0.02), ExportTolerance(0.9, 0.2), ExportTolerance(0.9, 0.3)

Outputs = Mapping[str, Array]


def export(run: RecipeRun, network: Any, pictures: Store, learnt: Array, measured: Array) -> list[Export]:
    """All forms, tried on `measured` images. The first is the SavedModel, which every result needs."""
    with exports.stage(run.clock, "SavedModel"):
        trial = _exported(run, network, pictures, spread(measured, MAX_TRIED))
    if run.parameters["exports"] == "all":
        examples = pictures.batch(spread(learnt, exports.MAX_CALIBRATION_IMAGES))
        _add_small_forms(run, trial, network, examples)
    return trial.results


def _exported(run: RecipeRun, network: Any, pictures: Store, tried: Array) -> exports.ExportTrial:
    labels = run.findings.labels
    folder = run.aside / exports.SAVED_MODEL
    signatures.save(network, signatures.Detector(network, labels, run.image()), folder)
    originals = [run.data(index) for index in tried]
    with run.optional(str(image_metadata.HELD_OUT)):
        held_out_images.write(originals, folder, run.background)
    inputs = [image[np.newaxis] for image in pictures.batch(tried).astype(np.float32)]
    compute = as_function(network)
    expected = [_packed(compute(each)) for each in inputs]
    trial = exports.ExportTrial(run.aside, inputs, expected, image=run.image(), compare=compare)
    trial.add("SavedModel", exports.SAVED_MODEL, _saved_model("serving_default"), tolerance=EXACT)
    files = [graph_images.as_tensor(data, run.background) for data in originals]
    sides = [_sides(run.findings.images[index]) for index in tried]
    in_pixels = [_scaled(each, side) for each, side in zip(expected, sides, strict=True)]
    trial.add(
        "SavedModel from files", exports.SAVED_MODEL, _saved_model("image_bytes", labels), inputs=files,
        expected=lambda: in_pixels, tolerance=DECODED,
    )  # fmt: skip
    trial.add("Keras", exports.KERAS_FILE, _keras_file(network), tolerance=EXACT)
    return trial


def compare(given: Sequence[Array], expected: Sequence[Array], *, same_iou: float = SAME_IOU) -> tuple[float, float]:
    """The share of boxes that both have, and the largest difference of their scores.

    Each array is (n, 6): label, score, left, top, right, bottom.
    """
    same = total = 0
    difference = 0.0
    for one, other in zip(given, expected, strict=True):
        for left, right in ((one, other), (other, one)):
            clear = left[left[:, 1] >= CLEAR]
            total += len(clear)
            overlaps = iou(clear[:, 2:], right[:, 2:]) * (clear[:, None, 0] == right[None, :, 0])
            for row, overlap in zip(clear, overlaps, strict=True):
                if overlap.size and overlap.max() >= same_iou:
                    same += 1
                    difference = max(difference, abs(float(row[1] - right[overlap.argmax(), 1])))
    return (same / total if total else 1.0), difference


# --- one form each


def _add_small_forms(run: RecipeRun, trial: exports.ExportTrial, network: Any, examples: Array) -> None:
    with ConstantModel(network, partial(network, training=False), batch=1) as source:
        with exports.stage(run.clock, "LiteRT"):
            trial.add("LiteRT", "model.tflite", _litert(partial(_with_floats, source), run.card()), tolerance=EXACT)
        with exports.stage(run.clock, "LiteRT int8"):
            integers = _litert(partial(_with_integers, source, examples.astype(np.float32)), run.card())
            loosely = partial(compare, same_iou=SAME_IOU_QUANTIZED)
            trial.add("LiteRT int8", "model_int8.tflite", integers, tolerance=QUANTIZED, compare=loosely)
    with exports.stage(run.clock, "ONNX"):
        trial.add("ONNX", "model.onnx", _onnx(network, run.card()), tolerance=EXACT)


def _saved_model(signature: str, labels: Sequence[str] = ()) -> Callable[[Path], exports.Compute]:
    def open_it(path: Path) -> exports.Compute:
        loaded = exports.load_once(path)
        function = loaded.signatures[signature]
        (inward,) = function.structured_input_signature[1]
        numbers = {label.encode(): number for number, label in enumerate(labels)}

        def compute(given: Array) -> Array:
            _ = loaded  # TensorFlow frees the variables with it
            outputs = {name: np.asarray(value) for name, value in function(**{inward: tf.constant(given)}).items()}
            if labels:
                outputs["labels"] = np.vectorize(lambda name: numbers.get(name, -1), otypes=[int])(outputs["labels"])
            return _packed(outputs)

        return compute

    return open_it


def _keras_file(network: Any) -> Callable[[Path], exports.Compute]:
    def open_it(path: Path) -> exports.Compute:
        network.save(path)
        compute = as_function(keras.saving.load_model(path, compile=False))
        return lambda image: _packed(compute(image))

    return open_it


def _litert(convert: Callable[[], bytes], card: dict[str, Any]) -> Callable[[Path], exports.Compute]:
    def open_it(path: Path) -> exports.Compute:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints every variable of the model
            path.write_bytes(with_metadata(convert(), card))
        interpreter = exports.litert_interpreter()(model_path=str(path), num_threads=2)
        runner = interpreter.get_signature_runner()
        (inward,) = runner.get_input_details()
        return lambda image: _packed(runner(**{inward: image}))

    return open_it


def _with_floats(source: ConstantModel) -> bytes:
    return bytes(source.converter().convert())


def _with_integers(source: ConstantModel, examples: Array) -> bytes:
    """Integers up to the last convolutions; then floats, since the corners of boxes need more than 8 bits."""
    types, nodes = _after_convolutions(_with_floats(source))
    converter = source.converter()
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image[np.newaxis]] for image in examples)
    options = tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=types, denylisted_nodes=nodes)
    debugger = tf.lite.experimental.QuantizationDebugger(
        converter=converter, debug_dataset=converter.representative_dataset, debug_options=options
    )
    return bytes(debugger.get_nondebug_quantized_model())


def _after_convolutions(model: bytes) -> tuple[list[str], list[str]]:
    """The operations of a LiteRT model that no convolution depends on.

    Types of operations that occur only there, and the names of the results of the others.
    """
    interpreter = exports.litert_interpreter()(model_content=model)
    operations = interpreter._get_ops_details()
    names = {each["index"]: each["name"] for each in interpreter.get_tensor_details()}
    needed: set[int] = set()
    before, after = [], []
    for operation in reversed(operations):
        if "CONV" in operation["op_name"] or needed.intersection(operation["outputs"]):
            needed.update(operation["inputs"])
            before.append(operation)
        else:
            after.append(operation)
    shared = {each["op_name"] for each in before}
    types = {each["op_name"] for each in after} - shared - {"DELEGATE"}
    nodes = [names[output] for each in after if each["op_name"] in shared for output in each["outputs"]]
    return sorted(types), nodes


def _onnx(network: Any, card: dict[str, Any]) -> Callable[[Path], exports.Compute]:
    def open_it(path: Path) -> exports.Compute:
        session = exports.onnx_session(network, card, path, lambda images: network(images, training=False))
        names = [each.name for each in session.get_outputs()]
        return lambda image: _packed(dict(zip(names, session.run(None, {"images": image}), strict=True)))

    return open_it


# --- outputs as rows


def _packed(outputs: Outputs) -> Array:
    """(n, 6) of the first image: label, score, left, top, right, bottom."""
    boxes, scores, labels, count = (np.asarray(outputs[name])[0] for name in NAMES)
    rows = np.concatenate([labels[:, np.newaxis], scores[:, np.newaxis], boxes], axis=1)
    return np.asarray(rows[: int(count)], np.float64)


def _sides(image: Any) -> Array:
    return np.array([image.width, image.height, image.width, image.height], np.float64)


def _scaled(rows: Array, sides: Array) -> Array:
    return np.concatenate([rows[:, :2], rows[:, 2:] * sides], axis=1)
