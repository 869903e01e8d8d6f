"""Makes a TF1 SavedModel with signatures of every method, with real TensorFlow, in the folder on the command line.

serving_default   y = x / 2 + 2 for rows of two numbers
classify          tf.Example with x, n and word → two classes with scores; classify_bare has scores only
regress           tf.Example with x, n and word → x + n + the length of word
mean, complex     outputs that are no rows, or no JSON
count             counts up to n: slow for large ones
"""

from __future__ import annotations

import sys
from typing import Any

import tensorflow as tf

v1 = tf.compat.v1
PREDICT = "tensorflow/serving/predict"
CLASSIFY = "tensorflow/serving/classify"
REGRESS = "tensorflow/serving/regress"


def signature(inputs: dict[str, tf.Tensor], outputs: dict[str, tf.Tensor], method: str = PREDICT) -> Any:
    info = v1.saved_model.utils.build_tensor_info
    return v1.saved_model.signature_def_utils.build_signature_def(
        {name: info(each) for name, each in inputs.items()},
        {name: info(each) for name, each in outputs.items()},
        method,
    )


def from_examples() -> dict[str, Any]:
    records = v1.placeholder(tf.string, [None], name="records")
    features = v1.parse_example(
        records,
        {
            "x": v1.FixedLenFeature([1], tf.float32),
            "n": v1.FixedLenFeature([1], tf.int64, default_value=0),
            "word": v1.FixedLenFeature([1], tf.string, default_value=""),
        },
    )
    length = tf.cast(tf.strings.length(features["word"]), tf.float32)
    value = features["x"] + tf.cast(features["n"], tf.float32) + length
    scores = tf.concat([value, -value], axis=1)
    classes = tf.tile(tf.constant([["up", "down"]]), [tf.shape(records)[0], 1])
    inputs = {"inputs": records}
    return {
        "classify": signature(inputs, {"classes": classes, "scores": scores}, CLASSIFY),
        "classify_bare": signature(inputs, {"scores": scores}, CLASSIFY),
        "regress": signature(inputs, {"outputs": value}, REGRESS),
    }


def main(folder: str) -> None:
    with v1.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 2], name="x")
        half = v1.get_variable("half", initializer=0.5, use_resource=True)
        n = v1.placeholder(tf.int64, [None], name="n")
        top = tf.reduce_max(n)
        counted = v1.while_loop(lambda i: i < top, lambda i: i + 1, [tf.constant(0, tf.int64)])
        signatures = {
            "serving_default": signature({"x": x}, {"y": x * half + 2.0}),
            "mean": signature({"x": x}, {"mean": tf.reduce_mean(x)}),
            "pair": signature({"x": x}, {"sum": tf.reduce_sum(x, axis=1), "mean": tf.reduce_mean(x)}),
            "complex": signature({"x": x}, {"z": tf.complex(x, x)}),
            "count": signature({"n": n}, {"n": tf.fill(tf.shape(n), counted)}),
            **from_examples(),
        }
        builder = v1.saved_model.Builder(folder)
        session.run(v1.global_variables_initializer())
        builder.add_meta_graph_and_variables(session, ["serve"], signature_def_map=signatures)
        builder.save()


if __name__ == "__main__":
    main(sys.argv[1])
