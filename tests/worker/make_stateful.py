"""Makes models that keep values between calls, and some that only look so, into the folder on the command line."""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import tensorflow as tf

v1 = tf.compat.v1
Spec = tf.TensorSpec
X = [Spec([None], tf.float32, name="x")]


class Counter(tf.Module):
    """Says how often it was computed."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = tf.Variable(0.0)
        self.table = tf.lookup.experimental.MutableHashTable(tf.string, tf.float32, -1.0)
        self.generator = tf.random.Generator.from_seed(1)
        self.cache = tf.Variable(tf.zeros([4]))

    @tf.function(input_signature=X)
    def plain(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x + self.calls.assign_add(1.0)}

    @tf.function(input_signature=X)
    def in_branches(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        """The assignment is in a function that a loop and a choice call, inside a function of the signature's."""

        @tf.function
        def step() -> tf.Tensor:
            return tf.cond(tf.size(x) > 0, lambda: self.calls.assign_add(1.0), lambda: self.calls.read_value())

        tf.while_loop(lambda i: i < 3, lambda i: (step(), i + 1)[1:], [tf.constant(0)])
        return {"y": x + self.calls}

    @tf.function(input_signature=X)
    def in_a_table(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        seen = self.table.lookup(tf.constant("seen"))
        with tf.control_dependencies([seen]):
            self.table.insert(tf.constant("seen"), seen + 1)
        return {"y": x + seen}

    @tf.function(input_signature=X)
    def in_a_part(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        self.cache.scatter_nd_add([[1]], [1.0])
        return {"y": x + self.cache[1]}

    @tf.function(input_signature=X)
    def random(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x + self.generator.normal(tf.shape(x))}

    @tf.function(input_signature=X)
    def reading(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        local = tf.TensorArray(tf.float32, 1).write(0, self.calls).stack()
        return {"y": x + local[0] + tf.reduce_sum(self.cache)}


def with_ref_variables(folder: Path) -> None:
    with v1.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None], name="x")
        calls = v1.get_variable("calls", initializer=0.0, use_resource=False)
        queue = tf.queue.FIFOQueue(10, [tf.float32], shared_name="kept")
        y = tf.add(x, v1.assign_add(calls, 1.0), name="y")
        with tf.control_dependencies([queue.enqueue(1.0)]):
            queued = tf.add(x, tf.cast(queue.size(), tf.float32), name="queued")
        session.run(v1.global_variables_initializer())
        v1.saved_model.simple_save(session, str(folder / "ref"), {"x": x}, {"y": y})
        v1.saved_model.simple_save(session, str(folder / "queue"), {"x": x}, {"y": queued})
        v1.add_to_collection("outputs", y)
        v1.train.Saver().save(session, str(folder / "graph"))


@keras.saving.register_keras_serializable()
class Noise(keras.layers.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.seed = keras.random.SeedGenerator(1)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return x + keras.random.normal(tf.shape(x), seed=self.seed)


def with_keras(folder: Path) -> None:
    layers = keras.layers
    keras.utils.set_random_seed(1)
    recurrent = keras.Sequential([layers.Input(batch_shape=(1, 1, 2), name="x"), layers.LSTM(3, stateful=True)])
    usual = keras.Sequential([layers.Input((5, 2), name="x"), layers.LSTM(3), layers.BatchNormalization()])
    usual.export(folder / "usual", verbose=False)
    archive = keras.export.ExportArchive()
    archive.track(recurrent)
    archive.add_endpoint("serve", recurrent.__call__, [Spec([1, 1, 2], tf.float32, name="x")])
    archive.write_out(folder / "lstm", verbose=False)
    keras.Sequential([layers.Input((2,)), Noise()]).export(folder / "noise", verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder / "plain"))
    converter.experimental_enable_resource_variables = True
    (folder / "plain.tflite").write_bytes(converter.convert())
    reading = tf.lite.TFLiteConverter.from_saved_model(str(folder / "reading"))
    reading.experimental_enable_resource_variables = True
    (folder / "reading.tflite").write_bytes(reading.convert())


def main(folder: Path) -> None:
    for name in ("plain", "in_branches", "in_a_table", "in_a_part", "random", "reading"):
        module = Counter()
        tf.saved_model.save(module, str(folder / name), signatures=getattr(module, name))
    with_ref_variables(folder)
    with_keras(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
