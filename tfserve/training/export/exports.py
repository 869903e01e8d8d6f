"""Exports a trained network in several forms, each compared with the original on held-out images.

A form that fails or differs from the original is reported; the training continues.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import statistics
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import keras
import msgspec
import numpy as np
import tensorflow as tf

from tfserve import paths
from tfserve.runtimes import image_metadata
from tfserve.runtimes.call_latency import wall_times
from tfserve.runtimes.error_summary import named_cause
from tfserve.tensors.specs import Array
from tfserve.training.atomic_files import is_disk_full
from tfserve.training.dataset import project_folders
from tfserve.training.export.constant_model import ConstantModel
from tfserve.training.export.litert_metadata import with_metadata
from tfserve.training.fit.timing import Clock, TimedStage

SAVED_MODEL = "saved_model"
KERAS_FILE = project_folders.KERAS_FILE

STAGES = {
    "SavedModel": "Exporting the SavedModel and the Keras file",
    "LiteRT": "Converting to LiteRT",
    "LiteRT int8": "Converting to LiteRT with integers",
    "ONNX": "Converting to ONNX",
}
"""Timed one by one, since the first takes as long as all others together. With what is reported at their beginning."""

MAX_CALIBRATION_IMAGES = 100
LATENCY_CALLS = 20
LATENCY_S = 1.5
"""Maximum calls and seconds for timing."""

Comparison = Callable[[Sequence[Array], Sequence[Array]], tuple[float, float | None]]
"""From what a form and the original compute to the share of same answers, and the largest difference of a score."""

Compute = Callable[[Array], Array]
"""From an input to chances, or to class numbers. The input is an image (1, height, width, 3) float32 in the network's
size, or for some signatures a file's bytes."""


class Export(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One form of the model. `same_answers` is the share of images (of pixels, for masks) with the original's class."""

    name: str
    path: str
    agrees: bool = False
    size_bytes: int | None = None
    latency_ms: float | None = None
    same_answers: float | None = None
    largest_difference: float | None = None
    problem: str | None = None


class ExportTolerance(msgspec.Struct, frozen=True):
    """How much a form may differ: the least share of same answers, the largest difference of a probability."""

    same_answers: float
    difference: float


EXACT = ExportTolerance(0.99, 1e-3)
DECODED = ExportTolerance(0.97, 0.1)
"""Files are decoded and resized by other code than for the training, which moves pixels by a level or two."""
QUANTIZED = ExportTolerance(0.95, 1.0)
TIE, RELATIVE_TIE = 0.02, 0.1
"""Classes whose probabilities in the original differ by no more, also as a share of the larger one, are both right
answers of another form. With hundreds of classes all probabilities may be small."""


def expect(clock: Clock, seconds: Sequence[float], network: str, forms: str) -> None:
    """Adds the stages of the exports: `seconds` on one ordinary core, for each of `STAGES`.

    `network` names all networks whose exports take as long on one machine.
    """
    for name, each in zip(STAGES if forms == "all" else list(STAGES)[:1], seconds, strict=False):
        clock.expect(_stage_name(name), each, key=f"{_stage_name(name)} of {network}", cores=1.0, fixed=True)


def stage(clock: Clock, name: str) -> contextlib.AbstractContextManager[TimedStage]:
    """Runs one of `STAGES`."""
    return clock.stage(_stage_name(name), STAGES[name])


def _stage_name(name: str) -> str:
    return f"export: {name}"


class ExportTrial:
    """Tries every form on the same inputs, and compares it with the original: probabilities, or class numbers."""

    def __init__(
        self, folder: Path, inputs: Sequence[Array], expected: Sequence[Array], *, image: dict[str, Any] | None = None,
        compare: Comparison | None = None,
    ) -> None:  # fmt: skip
        load_once.cache_clear()  # another attempt may have written another model to the same path
        self.results: list[Export] = []
        self._compare = compare or _difference
        self._image = image
        self._folder = folder
        self._inputs = inputs
        self._expected = expected

    @classmethod
    def of(cls, network: Any, folder: Path, images: Array, *, image: dict[str, Any] | None = None) -> ExportTrial:
        """`image` describes the input of the next forms; it is written next to each of them."""
        inputs = [images[index : index + 1] for index in range(len(images))]
        return cls(folder, inputs, list(map(_as_graph(network), inputs)), image=image)

    def add(
        self, name: str, path: str, open_it: Callable[[Path], Compute], *, tolerance: ExportTolerance = EXACT,
        inputs: Sequence[Array] | None = None, expected: Callable[[], Sequence[Array]] | None = None,
        compare: Comparison | None = None,
    ) -> None:  # fmt: skip
        """Makes or opens a form and tries it, on inputs and by a comparison of its own if need be.

        `expected` computes what the original makes of these inputs: if that fails, the form is not compared.
        """
        export = Export(name=name, path=path)
        self.results.append(export)
        try:
            if self._image and path != SAVED_MODEL:
                sidecar = image_metadata.sidecar(self._folder / path)
                sidecar.write_text(json.dumps(self._image, ensure_ascii=False, indent=2))
            compute = open_it(self._folder / path)
            inputs = self._inputs if inputs is None else inputs
            given = [compute(each) for each in inputs]
            compare = compare or self._compare
            same, difference = compare(given, self._expected if expected is None else expected())
            _judge(export, same, difference, tolerance)
            times = wall_times(partial(compute, inputs[0]), calls=LATENCY_CALLS, limit_s=LATENCY_S)
            export.latency_ms = round(statistics.median(times) * 1000, 3)
        except Exception as error:  # whatever a converter raises
            if path == SAVED_MODEL and is_disk_full(error):  # without it there is nothing to deliver
                raise
            export.problem = named_cause(error)
            if path != SAVED_MODEL and is_disk_full(error):  # the partly written form is useless
                for each in (self._folder / path, image_metadata.sidecar(self._folder / path)):
                    each.unlink(missing_ok=True)
        export.size_bytes = paths.size_bytes(self._folder / path)

    def add_small_forms(self, network: Any, card: dict[str, Any], examples: Array, clock: Clock) -> None:
        """LiteRT, LiteRT with integers, ONNX."""
        with ConstantModel(network, partial(_probabilities, network)) as source:
            with stage(clock, "LiteRT"):
                self.add("LiteRT", "model.tflite", litert(source, card))
            with stage(clock, "LiteRT int8"):
                self.add("LiteRT int8", "model_int8.tflite", litert(source, card, examples), tolerance=QUANTIZED)
        with stage(clock, "ONNX"):
            self.add("ONNX", "model.onnx", onnx(network, card))


def _as_graph(network: Any) -> Compute:
    """One call of a network; layer by layer, as Keras does it otherwise, takes several times as long."""
    function = tf.function(lambda images: network(images, training=False), autograph=False)

    def compute(images: Array) -> Array:
        _ = network  # TensorFlow frees the variables with it
        return np.asarray(function(tf.constant(images)))

    return compute


def keras_file(network: Any) -> Callable[[Path], Compute]:
    def open_it(path: Path) -> Compute:
        network.save(path)
        return _as_graph(keras.saving.load_model(path, compile=False))

    return open_it


def _probabilities(network: Any, images: Any) -> dict[str, Any]:
    return {"probabilities": network(images, training=False)}


def litert(source: ConstantModel, card: dict[str, Any], examples: Array | None = None) -> Callable[[Path], Compute]:
    """LiteRT (once TensorFlow Lite); with integer arithmetic when there are `examples` to find the ranges from."""

    def open_it(path: Path) -> Compute:
        converter = source.converter()
        if examples is not None:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([image[np.newaxis]] for image in examples)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        with contextlib.redirect_stdout(io.StringIO()):  # it prints every variable of the model
            path.write_bytes(with_metadata(converter.convert(), card))
        return _litert_compute(path)

    return open_it


def onnx(network: Any, card: dict[str, Any]) -> Callable[[Path], Compute]:
    def open_it(path: Path) -> Compute:
        session = onnx_session(network, card, path, partial(_probabilities, network))
        return lambda each: np.asarray(session.run(None, {"images": each})[0])

    return open_it


def onnx_session(network: Any, card: dict[str, Any], path: Path, outputs: Callable[[Any], dict[str, Any]]) -> Any:
    """Writes the ONNX file, whose outputs have the names of `outputs`, and loads it."""
    try:
        onnxruntime, tf2onnx, onnx = map(importlib.import_module, ("onnxruntime", "tf2onnx", "onnx"))
    except ImportError as error:
        raise RuntimeError(f"{error.name} is not installed: pip install tf2onnx onnxruntime") from error
    images = tf.TensorSpec(network.input_shape, tf.float32, name="images")
    function = tf.function(outputs, input_signature=[images], autograph=False)
    model, _ = tf2onnx.convert.from_function(function, input_signature=[images])
    onnx.helper.set_model_props(model, _properties(card))
    path.write_bytes(model.SerializeToString())
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def _properties(card: dict[str, Any]) -> dict[str, str]:
    """What an ONNX file says of itself: all of the card, and what this server reads."""
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in card.items()}
    texts[image_metadata.ONNX_PROPERTY] = texts.pop("image")
    return texts


def saved_model(
    output: str, signature: str = "serving_default", values: Sequence[int] = ()
) -> Callable[[Path], Compute]:
    """An output of a signature, of a SavedModel that is there already. With `values`, masks become class numbers."""

    def open_it(path: Path) -> Compute:
        loaded = load_once(path)
        function = loaded.signatures[signature]
        (inward,) = function.structured_input_signature[1]

        def compute(given: Array) -> Array:
            _ = loaded  # TensorFlow frees the variables with it
            result = np.asarray(function(**{inward: tf.constant(given)})[output])
            return np.searchsorted(np.asarray(values), result) if len(values) else result

        return compute

    return open_it


@lru_cache(maxsize=1)
def load_once(path: Path) -> Any:
    """The SavedModel, which several signatures are tried of: to load it takes seconds."""
    return tf.saved_model.load(path)


def _difference(given: Sequence[Array], expected: Sequence[Array]) -> tuple[float, float | None]:
    """Of chances or class numbers."""
    same: list[float] = []
    difference: float | None = None
    for one, original in zip(given, expected, strict=True):
        if one.shape == original.shape and one.dtype.kind == "f":
            difference = max(difference or 0.0, float(np.abs(one - original).max()))
        same.append(float(np.mean(_same_classes(one, original))))
    return float(np.mean(same)), difference


def _same_classes(one: Array, original: Array) -> Array:
    """Where the classes are the same, or as good as tied in the original: rounding decides between those."""
    given, right = _classes(one), _classes(original)
    same = np.asarray(given == right)
    if original.dtype.kind != "f" or given.shape != right.shape:
        return same
    chosen = np.clip(given.astype(np.int64), 0, original.shape[-1] - 1)
    chance = np.take_along_axis(original, chosen[..., np.newaxis], axis=-1)[..., 0]
    highest = original.max(axis=-1)
    is_tied = (given == chosen) & (highest - chance <= np.minimum(TIE, RELATIVE_TIE * highest))
    return np.asarray(same | is_tied)


def _judge(export: Export, same: float, difference: float | None, tolerance: ExportTolerance) -> None:
    export.same_answers, export.largest_difference = same, difference
    difference = difference or 0.0
    export.agrees = export.same_answers >= tolerance.same_answers and difference <= tolerance.difference
    if not export.agrees:
        export.problem = (
            f"differs from the original: {export.same_answers:.1%} of the predictions agree, probabilities differ"
            f" by up to {difference:.3g}"
        )


def _classes(answer: Array) -> Array:
    """Chances become class numbers."""
    return answer.argmax(axis=-1) if answer.dtype.kind == "f" else answer


def _litert_compute(path: Path) -> Compute:
    interpreter = litert_interpreter()(model_path=str(path), num_threads=2)
    interpreter.allocate_tensors()
    inward, outward = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def compute(images: Array) -> Array:
        interpreter.set_tensor(inward, images)
        interpreter.invoke()
        return np.asarray(interpreter.get_tensor(outward))

    return compute


def litert_interpreter() -> Any:
    """The class of LiteRT's interpreter, from LiteRT's own package where that is installed."""
    try:
        return importlib.import_module("ai_edge_litert.interpreter").Interpreter
    except ImportError:
        return tf.lite.Interpreter
