"""Makes SavedModels whose inputs have default values."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf

Spec = tf.TensorSpec

FACTOR, OFFSET, LABEL = tf.constant(2.0), tf.constant([0.5, 0.25]), tf.constant("é")
WEIGHT, X, NEGATE = tf.constant([1.0]), tf.constant([[1.0, 2.0]]), tf.constant(False)


def scaled(x: Any, factor: Any = FACTOR, offset: Any = OFFSET, label: Any = LABEL) -> dict[str, Any]:
    return {"y": x * factor + offset, "label": tf.fill(tf.shape(x)[:1], label)}


def weighted(x: Any, weight: Any = WEIGHT) -> dict[str, Any]:
    return {"y": x * weight}


def complete(x: Any = X, negate: Any = NEGATE) -> dict[str, Any]:
    return {"y": tf.where(negate, -x, x)}


def main(folder: Path) -> None:
    specs = [Spec([None, 2], tf.float32), Spec([], tf.float32), Spec([2], tf.float32), Spec([], tf.string)]
    save(folder / "scaled", scaled, specs)
    save(folder / "weighted", weighted, [Spec([None], tf.float32), Spec([None], tf.float32)])
    save(folder / "complete", complete, [Spec([None, 2], tf.float32), Spec([], tf.bool)])
    contradict(folder / "weighted", folder / "contradicting")


def save(path: Path, function: Callable[..., dict[str, Any]], specs: list[Any]) -> None:
    module = tf.Module()
    module.serve = tf.function(function, input_signature=specs)
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.serve})


def contradict(source: Path, path: Path) -> None:
    """The same model with a default of another type."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    saved = SavedModel.FromString((source / "saved_model.pb").read_bytes())
    defaults = saved.meta_graphs[0].signature_def["serving_default"].defaults
    defaults["weight"].CopyFrom(tf.make_tensor_proto([1]))
    path.mkdir()
    (path / "saved_model.pb").write_bytes(saved.SerializeToString())
    (path / "variables").mkdir()
    for file in (source / "variables").iterdir():
        (path / "variables" / file.name).write_bytes(file.read_bytes())


main(Path(sys.argv[1]))
