"""Makes small models for the acceptance tests with real TensorFlow, into the folder given on the command line."""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import tensorflow as tf

v1 = tf.compat.v1


class Scale(tf.Module):
    """y = x · factor, and what a bad model does for values above 100."""

    def __init__(self, factor: float, misbehave: str = "") -> None:
        super().__init__()
        self.factor = tf.Variable(factor)
        self.misbehave = misbehave

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
    def serve(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        is_bad = tf.reduce_any(x > 100.0)
        if self.misbehave == "abort":
            x = tf.cond(is_bad, self.abort(x), lambda: x)
        if self.misbehave == "exit":
            x = tf.cond(is_bad, self.abort(x, exit_without_error=True), lambda: x)
        if self.misbehave == "loop":
            x = tf.while_loop(lambda _: is_bad, lambda value: [value + 1], [x])[0]
        if self.misbehave == "hungry":
            x = tf.cond(is_bad, lambda: x + self.gigabytes(x), lambda: x)
        if self.misbehave == "abort_at_once":
            x = self.abort(x)()
        if self.misbehave == "abort_at_zeros":
            x = tf.cond(tf.reduce_any(tf.equal(x, 0.0)), self.abort(x), lambda: x)
        if self.misbehave == "abort_in_batches":
            x = tf.map_fn(self.slowly_if_whole, x)
        if self.misbehave == "fail_at_once":
            with tf.control_dependencies([tf.debugging.assert_greater(x, 1.0, message="too small")]):
                x = tf.identity(x)
        return {"y": x * self.factor}

    def slowly_if_whole(self, row: tf.Tensor) -> tf.Tensor:
        """Aborts for the made-up rows of batches. No operation combines rows, so that batches are tried."""
        return tf.cond(tf.reduce_any(row != tf.round(row)), self.abort(row), lambda: self.slowly(row))

    @staticmethod
    def slowly(x: tf.Tensor) -> tf.Tensor:
        """`x`, after some milliseconds."""
        wide = tf.fill([400, 400], x[0])
        for _ in range(10):
            wide = tf.tanh(wide @ wide)
        return x + 1e-12 * tf.reduce_mean(wide)

    @staticmethod
    def gigabytes(x: tf.Tensor) -> tf.Tensor:
        """A number for which 4 GB are needed where `x` has a 1000."""
        return tf.reduce_sum(tf.random.uniform([tf.cast(tf.reduce_max(x), tf.int64) * 1_000_000]))

    @staticmethod
    def abort(x: tf.Tensor, *, exit_without_error: bool = False):
        def branch() -> tf.Tensor:
            with tf.control_dependencies(
                [tf.raw_ops.Abort(error_msg="bad value", exit_without_error=exit_without_error)]
            ):
                return tf.identity(x)

        return branch


class Counter(tf.Module):
    """y = x + how often it was computed."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = tf.Variable(0.0)

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
    def serve(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x + self.calls.assign_add(1.0)}


def save(folder: Path, factor: float, misbehave: str = "") -> None:
    module = Scale(factor, misbehave)
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})


class Pictures(tf.Module):
    """Tells dark images of 4x4 grey values from 0 to 1 from light ones."""

    @tf.function(input_signature=[tf.TensorSpec([None, 4, 4, 1], tf.float32, name="images")])
    def __call__(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        light = tf.sigmoid(10 * (tf.reduce_mean(images, axis=[1, 2, 3]) - 0.5))
        return {"chances": tf.stack([1 - light, light], axis=1)}


class Deep(tf.Module):
    """y = 2 x by way of many small matrices, so that runtimes differ in speed (TensorFlow's takes longer for each step)
    and not in numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.widen = tf.Variable(tf.eye(2, 64))
        self.keep = [tf.Variable(tf.eye(64)) for _ in range(80)]

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
    def __call__(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        wide = x @ self.widen
        for matrix in self.keep:
            wide = wide @ matrix
        return {"y": 2.0 * wide @ tf.transpose(self.widen)}


class Wide(tf.Module):
    """y = 2 x by way of large matrices: a millisecond or two for each row."""

    def __init__(self) -> None:
        super().__init__()
        self.widen = tf.Variable(tf.eye(2, 512))
        self.keep = tf.Variable(tf.eye(512))

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
    def __call__(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        wide = x @ self.widen
        for _ in range(60):
            wide = wide @ self.keep
        return {"y": 2.0 * wide @ tf.transpose(self.widen)}


class Conversions(tf.Module):
    """What a conversion computes and TensorFlow refuses; and what can't be compared without real requests."""

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.int32, name="at")])
    def table(self, at: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.gather(tf.range(100, dtype=tf.float32) * 2.0, at)}

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32, name="x")])
    def open(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.reduce_sum(x, axis=1)}


def meta_graph(folder: Path) -> None:
    with v1.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 2], name="x")
        weights = v1.get_variable("w", initializer=[[1.0], [2.0]], use_resource=True)
        y = tf.identity(x @ weights, name="y")
        v1.add_to_collection("inputs", x)
        v1.add_to_collection("outputs", y)
        saver = v1.train.Saver()
        session.run(v1.global_variables_initializer())
        saver.save(session, str(folder / "one"))
        session.run(weights.assign([[10.0], [20.0]]))
        saver.save(session, str(folder / "two"), write_meta_graph=False)


def reader(folder: Path) -> None:
    """A graph that reads a file of the machine."""
    with v1.Graph().as_default() as graph:
        x = v1.placeholder(tf.float32, [None, 2], name="x")
        text = tf.io.read_file("/etc/hostname", name="read")
        tf.identity(x * tf.cast(tf.strings.length(text) > 0, tf.float32), name="y")
    (folder / "reader.pb").write_bytes(graph.as_graph_def().SerializeToString())


def keras_files(folder: Path) -> None:
    network = keras.Sequential([keras.Input((2,), name="x"), keras.layers.Dense(1, kernel_initializer="ones")])
    network.save(folder / "net.keras")
    network.save(folder / "net.h5")
    squares = keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x: x**2)])
    squares.save(folder / "lambda.keras")


def main(folder: Path) -> None:
    for version in (1, 2):
        save(folder / "scale" / str(version), float(version))
    for misbehave in (
        "abort",
        "exit",
        "loop",
        "hungry",
        "abort_at_once",
        "abort_at_zeros",
        "abort_in_batches",
        "fail_at_once",
    ):
        save(folder / misbehave, 1.0, misbehave)
    counter = Counter()
    tf.saved_model.save(counter, str(folder / "counter"), signatures=counter.serve)
    reader(folder)
    pictures = Pictures()
    tf.saved_model.save(pictures, str(folder / "pictures"), signatures=pictures.__call__)
    wide = Wide()
    tf.saved_model.save(wide, str(folder / "wide"), signatures=wide.__call__)
    deep = Deep()
    tf.saved_model.save(deep, str(folder / "deep"), signatures=deep.__call__)
    conversions = Conversions()
    for name in ("table", "open"):
        tf.saved_model.save(conversions, str(folder / name), signatures=getattr(conversions, name))
    meta_graph(folder)
    keras_files(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
