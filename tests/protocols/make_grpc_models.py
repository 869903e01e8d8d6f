"""Makes a SavedModel in the folder that is its argument: it classifies, regresses, doubles, and computes for long."""

from __future__ import annotations

import sys

import tensorflow as tf

v1 = tf.compat.v1
sdk = v1.saved_model.signature_def_utils

with v1.Graph().as_default(), v1.Session() as session:
    rows = v1.placeholder(tf.string, [None], name="rows")
    number = v1.FixedLenFeature([1], tf.float32, default_value=[0.0])
    features = v1.parse_example(rows, {"x": number, "y": number})
    total = tf.add(features["x"], features["y"])
    scores = tf.concat([total, -total], axis=1)
    labels = tf.tile(tf.constant([["plus", "minus"]]), [tf.shape(rows)[0], 1])

    plain = v1.placeholder(tf.float32, [None, 1], name="plain")
    double = tf.multiply(plain, 2.0, name="double")

    turns = v1.placeholder(tf.int32, [1], name="turns")
    matrix = tf.eye(256)
    _, held = tf.while_loop(
        lambda at, _: at < turns[0], lambda at, held: (at + 1, tf.matmul(held, matrix)), (tf.constant(0), matrix)
    )
    done = tf.reshape(tf.reduce_sum(held), [1], name="done")

    signatures = {
        "classify": sdk.classification_signature_def(rows, labels, scores),
        "regress": sdk.regression_signature_def(rows, total),
        "serving_default": sdk.predict_signature_def({"plain": plain}, {"double": double}),
        "slow": sdk.predict_signature_def({"turns": turns}, {"done": done}),
    }
    builder = v1.saved_model.Builder(sys.argv[1])
    builder.add_meta_graph_and_variables(session, [tf.saved_model.SERVING], signatures)
    builder.save()
