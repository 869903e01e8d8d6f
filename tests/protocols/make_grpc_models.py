"""Makes two SavedModels in the folder that is its argument."""

from __future__ import annotations

import sys
from pathlib import Path

import tensorflow as tf

folder = Path(sys.argv[1])


def examples() -> None:
    """`examples`: signatures that take tf.Example and classify, regress, and one for plain tensors."""
    v1 = tf.compat.v1
    sdk = v1.saved_model.signature_def_utils
    with v1.Graph().as_default(), v1.Session() as session:
        rows = v1.placeholder(tf.string, [None], name="rows")
        features = v1.parse_example(
            rows,
            {"x": v1.FixedLenFeature([1], tf.float32), "y": v1.FixedLenFeature([1], tf.float32, default_value=[0.0])},
        )
        total = tf.add(features["x"], features["y"])
        scores = tf.concat([total, -total], axis=1)
        labels = tf.tile(tf.constant([["plus", "minus"]]), [tf.shape(rows)[0], 1])
        plain = v1.placeholder(tf.float32, [None, 1], name="plain")
        double = tf.multiply(plain, 2.0, name="double")
        builder = v1.saved_model.Builder(str(folder / "examples"))
        builder.add_meta_graph_and_variables(
            session,
            [tf.saved_model.SERVING],
            {
                "classify": sdk.classification_signature_def(rows, labels, scores),
                "regress": sdk.regression_signature_def(rows, total),
                "serving_default": sdk.predict_signature_def({"plain": plain}, {"double": double}),
            },
        )
        builder.save()


class Slow(tf.Module):
    """Multiplies matrices `turns` times."""

    @tf.function(input_signature=[tf.TensorSpec([1], tf.int32, name="turns")])
    def compute(self, turns):  # type: ignore[no-untyped-def]
        matrix = tf.eye(256)

        def turn(at, held):  # type: ignore[no-untyped-def]
            return at + 1, tf.linalg.matmul(held, matrix)

        _, held = tf.while_loop(lambda at, _: at < turns[0], turn, (tf.constant(0), matrix), parallel_iterations=1)
        return {"sum": tf.reshape(tf.reduce_sum(held), [1])}


examples()
slow = Slow()
tf.saved_model.save(slow, str(folder / "slow"), signatures=slow.compute)
