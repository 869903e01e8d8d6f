"""Makes the models of the contract suite and of conversions with real TensorFlow, into the given folder."""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import tensorflow as tf

from tfserve.runtimes import conversion, saved_model_file

Spec = tf.TensorSpec


class Contract(tf.Module):
    """Two inputs of different types, and outputs in an order that is not that of their names."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = tf.Variable(3.0)

    @tf.function(input_signature=[Spec([None, 2], tf.float32, name="x"), Spec([None], tf.int32, name="count")])
    def serve(self, x: tf.Tensor, count: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x * self.factor, "more": count + 1, "is_large": tf.reduce_any(x > 1.0, axis=1)}


class Odd(tf.Module):
    """What other runtimes do differently, or not at all."""

    @tf.function(input_signature=[Spec([None], tf.int64, name="n")])
    def wide(self, n: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"n": n * 3}

    @tf.function(input_signature=[Spec([None, 2], tf.float32, name="x")])
    def random(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x + tf.random.uniform([2])}

    @tf.function(input_signature=[Spec([None], tf.string, name="word")])
    def words(self, word: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"length": tf.strings.length(word)}

    @tf.function(input_signature=[Spec([None, 2], tf.float32, name="x")])
    def checked(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.control_dependencies([tf.debugging.assert_non_negative(x, message="x is negative")]):
            return {"y": tf.sqrt(x)}


class Strict(tf.Module):
    """What TensorFlow refuses, and a conversion computes."""

    @tf.function(input_signature=[Spec([None, 2], tf.int32, name="at")])
    def table(self, at: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.gather(tf.range(100, dtype=tf.float32) * 2.0, at)}

    @tf.function(input_signature=[Spec([None, 2], tf.int32, name="n")])
    def even(self, n: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.control_dependencies([tf.debugging.assert_equal(n % 2, 0, message="n is odd")]):
            return {"y": n * 3}

    @tf.function(input_signature=[Spec([None, 2], tf.int32, name="n")])
    def classes(self, n: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.one_hot(n, 4)}

    @tf.function(input_signature=[Spec([None, None], tf.float32, name="x")])
    def open(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.reduce_sum(x, axis=1)}

    @tf.function(input_signature=[Spec([None, None], tf.int32, name="ids")])
    def open_table(self, ids: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.gather(tf.range(10.0), ids)}

    @tf.function(input_signature=[Spec([None, None], tf.int32, name="n")])
    def open_classes(self, n: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.one_hot(n, 4)}

    @tf.function(input_signature=[Spec([None, None], tf.int32, name="ids")])
    def open_thirteen(self, ids: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.reshape(ids, [-1, 13]) + tf.zeros_like(ids)}


class Counter(tf.Module):
    """Counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = tf.Variable(0.0)

    @tf.function(input_signature=[Spec([None, 2], tf.float32, name="x")])
    def serve(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x + self.calls.assign_add(1.0)}


class Trained(tf.Module):
    """With an optimizer whose slots TensorFlow 2 saves and does not load."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = tf.Variable([[2.0], [1.0]])
        self.optimizer = tf.compat.v1.train.AdamOptimizer()
        self.optimizer.apply_gradients([(tf.ones([2, 1]), self.factor)])

    @tf.function(input_signature=[Spec([None, 2], tf.float32, name="x")])
    def serve(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.matmul(x, self.factor)}


class Copies(tf.Module):
    """Two Keras 3 networks in a module: the saver restores copies of their variables that no signature uses."""

    def __init__(self) -> None:
        super().__init__()
        self.networks = [self._network(value) for value in (1.0, 10.0)]

    @staticmethod
    def _network(value: float) -> keras.Model:
        dense = keras.layers.Dense(1, kernel_initializer=keras.initializers.Constant(value), name="dense")
        return keras.Sequential([keras.Input((2,)), dense], name="same")

    @tf.function(input_signature=[Spec([None, 2], tf.float32, name="x")])
    def serve(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.add_n([network(x) for network in self.networks])}


def network() -> keras.Model:
    """A convolution, a dense layer and two outputs."""
    keras.utils.set_random_seed(1)
    images = keras.Input((8, 8, 3), name="images")
    features = keras.layers.Flatten()(keras.layers.Conv2D(4, 3, activation="relu")(images))
    chances = keras.layers.Dense(3, activation="softmax", name="chances")(features)
    size = keras.layers.Dense(1, name="size")(features)
    return keras.Model(images, {"chances": chances, "size": size})


class Words(tf.Module):
    """What LiteRT can do with text."""

    @tf.function(input_signature=[Spec([None], tf.string, name="word"), Spec([None], tf.int32, name="at")])
    def choose(self, word: tf.Tensor, at: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"chosen": tf.gather(word, at)}


def litert_files(folder: Path) -> None:
    """One with text, one of the kind that has no signature, and one of that kind that needs 5 values in a row."""
    words = Words()
    tf.saved_model.save(words, str(folder / "chosen"), signatures=words.choose)
    text = tf.lite.TFLiteConverter.from_saved_model(str(folder / "chosen"))
    (folder / "text.tflite").write_bytes(text.convert())
    double = tf.function(lambda x: x * 2, input_signature=[Spec([None, 2], tf.float32, name="x")])
    plain = tf.lite.TFLiteConverter.from_concrete_functions([double.get_concrete_function()])
    (folder / "plain.tflite").write_bytes(plain.convert())
    kernel = tf.ones([5, 1, 1, 1])
    sums = tf.function(
        lambda x: tf.nn.conv2d(x, kernel, strides=1, padding="VALID"),
        input_signature=[Spec([1, None, 1, 1], tf.float32, name="x")],
    )
    sound = tf.lite.TFLiteConverter.from_concrete_functions([sums.get_concrete_function()])
    (folder / "sound.tflite").write_bytes(sound.convert())


def main(folder: Path) -> None:
    contract = Contract()
    saved_model = folder / "contract"
    tf.saved_model.save(contract, str(saved_model), signatures=contract.serve)
    name, signature = "serving_default", saved_model_file.signatures(saved_model)["serving_default"]
    for runtime in conversion.CONVERTERS:
        conversion.convert(runtime, saved_model, name, signature, precision="float32", to=folder / runtime)
    odd = Odd()
    for name in ("wide", "random", "words", "checked"):
        tf.saved_model.save(odd, str(folder / name), signatures=getattr(odd, name))
    strict, trained, counter = Strict(), Trained(), Counter()
    tf.saved_model.save(counter, str(folder / "counter"), signatures=counter.serve)
    for name in ("table", "even", "classes", "open", "open_table", "open_classes", "open_thirteen"):
        tf.saved_model.save(strict, str(folder / name), signatures=getattr(strict, name))
    tf.saved_model.save(trained, str(folder / "slots"), signatures=trained.serve)
    copies = Copies()
    tf.saved_model.save(copies, str(folder / "copies"), signatures=copies.serve)
    litert_files(folder)
    network().save(folder / "network.keras")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
