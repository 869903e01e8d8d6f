"""Makes models with complex numbers, a single text, outputs without elements, and inputs that the model refuses."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf

Spec = tf.TensorSpec
Function = Callable[..., dict[str, tf.Tensor]]

MODELS: dict[str, tuple[Function, list[tf.TensorSpec]]] = {
    "greeting": (lambda name: {"same": tf.identity(name)}, [Spec([], tf.string, name="name")]),
    "positives": (lambda x: {"at": tf.where(x > 0), "x": x * 2}, [Spec([None, 2], tf.float32, name="x")]),
    "table": (lambda at: {"y": tf.gather(tf.constant([1.0, 2.0]), at)}, [Spec([None], tf.int32, name="at")]),
}


COMPLEX: dict[str, tuple[Function, list[tf.TensorSpec]]] = {
    "spectrum": (
        lambda x: {"size": tf.abs(tf.signal.rfft(x)), "waves": tf.signal.rfft(x)}, [Spec([None, 4], tf.float32, "x")]
    ),
    "magnitude": (lambda z: {"size": tf.abs(z)}, [Spec([None], tf.complex64, name="z")]),
}  # fmt: skip


def main(folder: Path) -> None:
    for name, (function, specs) in COMPLEX.items():
        save(folder / name, function, specs)
    for name, (function, specs) in MODELS.items():
        concrete = save(folder / name, function, specs)
        with_signature = tf.lite.TFLiteConverter.from_saved_model(str(folder / name))
        (folder / f"{name}.tflite").write_bytes(with_signature.convert())
        without = tf.lite.TFLiteConverter.from_concrete_functions([concrete])
        (folder / f"{name}_plain.tflite").write_bytes(without.convert())


def save(path: Path, function: Function, specs: list[tf.TensorSpec]) -> Any:
    """Returns the concrete function."""
    module = tf.Module()
    module.serve = tf.function(function, input_signature=specs)
    concrete: Any = module.serve.get_concrete_function()
    tf.saved_model.save(module, str(path), signatures=concrete)
    return concrete


main(Path(sys.argv[1]))
