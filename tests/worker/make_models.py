"""Makes every kind of model that the tests load, with real TensorFlow, into the folder given on the command line."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import keras
import tensorflow as tf

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
