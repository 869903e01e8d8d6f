"""Makes every kind of model that the tests load, with real TensorFlow, into the folder given on the command line."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
import tf_keras

v1 = tf.compat.v1


def meta_graphs(folder: Path) -> None:
    """y = x·w + b with collections and no signature; a second checkpoint has other weights."""
    with v1.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 2], name="x")
        weights = v1.get_variable("w", initializer=[[1.0], [2.0]], use_resource=True)
        y = tf.identity(x @ weights, name="y")
        offset = v1.placeholder(tf.float32, [], name="offset")
        shifted = tf.add(y, offset, name="shifted")
        centred = tf.subtract(y, tf.reduce_mean(y, axis=0), name="centred")
        for key, tensor in (("inputs", x), ("outputs", y), ("outputs", shifted), ("offsets", offset)):
            v1.add_to_collection(key, tensor)
        v1.add_to_collection("centred", centred)
        v1.add_to_collection("train", weights.assign_add([[1.0], [1.0]]).op)
        v1.add_to_collection("text", tf.constant([b"abc", b"\xff"], name="text"))
        saver = v1.train.Saver()
        session.run(v1.global_variables_initializer())
        saver.save(session, str(folder / "one"))
        session.run(weights.assign([[10.0], [20.0]]))
        saver.save(session, str(folder / "two"), write_meta_graph=False)


def saved_model_v1(folder: Path) -> None:
    with v1.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 3], name="x")
        k = v1.placeholder(tf.int64, [], name="k")
        scale = v1.get_variable("scale", initializer=2.0)
        y = tf.multiply(x * scale, tf.cast(k, tf.float32), name="y")
        session.run(v1.global_variables_initializer())
        v1.saved_model.simple_save(session, str(folder / "v1"), inputs={"features": x, "k": k}, outputs={"score": y})


class Functions(tf.Module):
    """Signatures of every kind: numbers, exact integers, text, one that mixes rows, one that fails for negatives."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = tf.Variable(3.0)
        words = tf.constant(["cat", "dog"])
        self.table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(words, tf.constant([1, 2], tf.int64)), -1
        )

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
    def scaled(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x * self.factor, "total": tf.reduce_sum(x, axis=1)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64, name="n")])
    def exact(self, n: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"n": n}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="word")])
    def words(self, word: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"number": self.table.lookup(word), "shout": tf.strings.join([word, "!"])}

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
    def centred(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x - tf.reduce_mean(x, axis=0)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def positive(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.control_dependencies([tf.debugging.assert_non_negative(x, message="x is negative")]):
            return {"y": tf.sqrt(x)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def odd(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"half": tf.cast(x, tf.float16), "brain": tf.cast(x, tf.bfloat16), "log": tf.math.log(x)}

    @tf.function(input_signature=[tf.TensorSpec([], tf.int32, name="rows")])
    def huge(self, rows: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.zeros([rows, 1024])}


def saved_models_v2(folder: Path) -> None:
    module = Functions()
    signatures = {
        "serving_default": module.scaled,
        **{name: getattr(module, name) for name in ("exact", "words", "centred", "positive", "odd", "huge")},
    }
    tf.saved_model.save(module, str(folder / "v2"), signatures=signatures)
    for version in ("2", "10"):
        shutil.copytree(folder / "v2", folder / "versions" / version)


class Failing(tf.Module):
    """Its signature is plain, but its computation always fails."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def __call__(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.control_dependencies([tf.debugging.assert_less(x, -1.0, message="never right")]):
            return {"y": tf.identity(x)}


class Counting(tf.Module):
    """Counts up to n, which takes microseconds a number, and tells how often it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = tf.Variable(0, dtype=tf.int64)

    @tf.function(input_signature=[tf.TensorSpec([], tf.int64, name="n")])
    def __call__(self, n: tf.Tensor) -> dict[str, tf.Tensor]:
        counted = tf.while_loop(lambda i: i < n, lambda i: [i + 1], [tf.constant(0, tf.int64)])[0]
        with tf.control_dependencies([counted]):
            return {"calls": self.calls.assign_add(1), "counted": counted}


@keras.saving.register_keras_serializable()
class Custom(keras.layers.Layer):
    def call(self, x: tf.Tensor) -> tf.Tensor:
        return x


def keras_files(folder: Path) -> None:
    layers = keras.layers
    dense = keras.Sequential([layers.Input((2,), name="x"), layers.Dense(1, kernel_initializer="ones")])
    lambda_ = keras.Sequential([layers.Input((2,)), layers.Lambda(lambda x: x + 1)])
    custom = keras.Sequential([layers.Input((2,)), Custom()])
    for name, model in (("dense", dense), ("lambda", lambda_), ("custom", custom)):
        model.save(folder / f"{name}.keras")
        model.save(folder / f"{name}.h5")
    dense.compile(loss=lambda expected, found: keras.losses.mse(expected, found))
    for suffix in ("h5", "keras"):
        dense.save(folder / f"compiled.{suffix}")


def keras_2_files(folder: Path) -> None:
    """Files of Keras 2 with what Keras 3 refuses, each next to an input and the outputs that Keras 2 computes."""
    layers = tf_keras.layers
    random = np.random.default_rng(0)
    images, series = (random.normal(size=shape).astype(np.float32) for shape in ((2, 8, 8, 3), (2, 6, 4)))

    picture = tf_keras.Input((8, 8, 3), name="picture")
    found = layers.DepthwiseConv2D(3, padding="same")(picture)
    found = layers.SeparableConv2D(4, 3, strides=2, padding="same")(found)
    found = layers.LeakyReLU(alpha=0.2)(layers.Conv2DTranspose(3, 3, padding="same")(found))
    inner = tf_keras.Sequential(
        [layers.Conv2D(4, 3), layers.BatchNormalization(fused=True), layers.ThresholdedReLU(0.1)]
    )
    price = layers.Dense(1, name="price")(layers.GlobalAveragePooling2D()(inner(found)))
    risk = layers.Dense(2, activation="softmax", name="risk")(layers.Flatten()(found[:, ::2] * 2.0))
    keep(tf_keras.Model(picture, [price, risk]), folder / "two_heads", images)

    steps = tf_keras.Input((6, 4), name="steps")
    found = layers.LocallyConnected1D(4, 2)(layers.Bidirectional(layers.LSTM(3, return_sequences=True))(steps))
    ends = {"last/state": layers.GRU(2)(found), "mean": tf.reduce_mean(tf.concat([found, found], -1), axis=[1, 2])}
    keep(tf_keras.Model(steps, ends), folder / "series", series)

    fixed = tf_keras.Input(batch_shape=(2, 6, 4), name="steps")
    keep(tf_keras.Model(fixed, layers.SimpleRNN(2, name="rnn")(fixed)), folder / "fixed", series)

    ids = tf_keras.Input((None,), dtype="int64", ragged=True, name="ids")
    found = layers.GlobalAveragePooling1D(name="mean")(layers.Embedding(10, 3)(ids))
    tf_keras.Model(ids, found).save(folder / "ragged.h5")
    tf_keras.Model(steps, layers.Lambda(lambda x: x + 1)(steps)).save(folder / "lambda2.h5")
    activated = tf_keras.Model(steps, layers.Dense(1, activation=lambda x: x * 2, name="scores")(steps))
    for suffix in ("h5", "keras"):
        activated.save(folder / f"activated.{suffix}")


def keep(model: tf_keras.Model, path: Path, inputs: np.ndarray) -> None:
    """Saves the model in both formats of Keras 2, its weights, and what it computes."""
    for weight in model.weights:
        weight.assign_add(tf.random.stateless_uniform(weight.shape, [1, 2], 0, 0.1))
    model.save(f"{path}.h5")
    model.save(f"{path}.keras")
    model.save_weights(f"{path}.weights.h5")
    outputs = {str(n): each for n, each in enumerate(tf.nest.flatten(model(inputs, training=False)))}
    np.savez(f"{path}.npz", inputs=inputs, **outputs)


def named_keras_files(folder: Path) -> None:
    """Files of Keras 3: names of inputs and outputs, a fixed batch, and one whose layer fails when it is called."""
    layers = keras.layers
    first, second = layers.Input((2,), name="first input"), layers.Input((1,), name="second")
    shared = layers.Dense(1, kernel_initializer="ones", name="sum")
    outputs = [shared(first), shared(layers.Concatenate()([second, second])), layers.ReLU(name="risk")(second)]
    keras.Model([first, second], outputs).save(folder / "named.keras")
    keras.Model(second, {"price": outputs[2], "more": {"risk": second * 2.0}}).save(folder / "dictionary.keras")
    fixed = layers.Input(batch_shape=(4, 3), name="x")
    keras.Model(fixed, layers.Dense(1, kernel_initializer="ones", name="y")(fixed)).save(folder / "fixed_batch.h5")
    keras.Model(first, shared(first)).save_weights(folder / "plain.weights.h5")


class Composites(tf.Module):
    """Ragged and sparse tensors in and out."""

    @tf.function
    def __call__(self, ids, table, deep, factor):  # type: ignore[no-untyped-def]
        return {
            "lengths": ids.row_lengths(),
            "dense": tf.sparse.to_dense(table) * factor,
            "sums": tf.reduce_sum(tf.reduce_sum(deep, axis=2), axis=1),
            "doubled": ids * 2,
            "table": table,
        }

    @tf.function
    def only_ragged(self, ids):  # type: ignore[no-untyped-def]
        return {"doubled": ids * 2}


def composites(folder: Path) -> None:
    module = Composites()
    ids = tf.RaggedTensorSpec([None, None], tf.int64)
    table = tf.SparseTensorSpec([None, 3], tf.float32)
    deep = tf.RaggedTensorSpec([None, None, None], tf.float32)
    signatures = {
        "serving_default": module.__call__.get_concrete_function(ids, table, deep, tf.TensorSpec([], tf.float32)),
        "only_ragged": module.only_ragged.get_concrete_function(ids),
    }
    tf.saved_model.save(module, str(folder / "composites"), signatures=signatures)
    with v1.Graph().as_default(), v1.Session() as session:
        sparse = v1.sparse_placeholder(tf.float32, [None, 3], name="sparse")
        v1.saved_model.simple_save(
            session, str(folder / "sparse_v1"), inputs={"table": sparse}, outputs={"dense": v1.sparse.to_dense(sparse)}
        )


def odd_meta_graphs(folder: Path) -> None:
    """One with stale hints of shapes, one whose prefix is only a folder, one with an operation that nobody has."""
    definition = v1.MetaGraphDef.FromString((folder / "one.meta").read_bytes())
    for node in definition.graph_def.node:
        if node.name == "y":
            node.attr["_output_shapes"].list.shape.add().dim.add().size = 7
    (folder / "hints.meta").write_bytes(definition.SerializeToString())
    (folder / "prefix").mkdir()
    for suffix in (".index", ".data-00000-of-00001"):
        shutil.copy(folder / f"one{suffix}", folder / f"hints{suffix}")
        shutil.copy(folder / f"one{suffix}", folder / "prefix" / suffix)
        shutil.copy(folder / f"one{suffix}", folder / f"custom_op{suffix}")
    shutil.copy(folder / "one.meta", folder / "prefix" / ".meta")
    next(node for node in definition.graph_def.node if node.name == "y").op = "SentencepieceOp"
    (folder / "custom_op.meta").write_bytes(definition.SerializeToString())


if __name__ == "__main__":
    target = Path(sys.argv[1])
    meta_graphs(target)
    saved_model_v1(target)
    saved_models_v2(target)
    failing = Failing()
    tf.saved_model.save(failing, str(target / "failing"), signatures=failing.__call__)
    counting = Counting()
    tf.saved_model.save(counting, str(target / "count"), signatures=counting.__call__)
    keras_files(target)
    keras_2_files(target)
    named_keras_files(target)
    composites(target)
    odd_meta_graphs(target)
