"""Variables and tables that the saver of a file does not restore get their values, or their signatures are refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfserve import runtimes
from tfserve.errors import Invalid
from tfserve.models import formats
from tfserve.runtimes import frozen, state
from tfserve.runtimes.interface import Runtime

pytestmark = pytest.mark.filterwarnings("ignore")  # TensorFlow's and Keras' own

v1 = tf.compat.v1
X = np.array([[1.0, 2.0]], np.float32)


def load(folder: Path) -> Runtime:
    return runtimes.load(formats.locate(str(folder)), device="/cpu:0")


def run(model: Runtime, **inputs: Any) -> Any:
    return model.run(inputs, ["y"], "serving_default")[0]


class Networks(tf.Module):
    """Keras 3 layers with the same names, and one that counts its calls: saved as TensorFlow saves any module."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = (self._network(value) for value in (1.0, 10.0))
        self.counter = keras.Variable(0.0, trainable=False, name="kernel")

    @staticmethod
    def _network(value: float) -> Any:
        dense = keras.layers.Dense(1, kernel_initializer=keras.initializers.Constant(value), name="dense")
        return keras.Sequential([keras.Input((2,)), dense], name="same")

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
    def both(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": self.first(x) + self.second(x)}

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
    def counting(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        self.counter.assign(self.counter + 1.0)
        return {"y": self.first(x) + self.counter}


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("networks")
    module = Networks()
    for name in ("both", "counting"):
        tf.saved_model.save(module, str(folder / name), signatures=getattr(module, name))
    return folder


def test_variables_of_keras_3_in_a_module_get_their_values(networks: Path, tmp_path: Path) -> None:
    assert run(load(networks / "both"), x=X).tolist() == [[33.0]]
    frozen.write(networks / "both", "serving_default", tmp_path / "frozen")
    assert run(load(tmp_path / "frozen"), x=X).tolist() == [[33.0]]


def test_openvino_refuses_to_read_such_a_model_itself(networks: Path) -> None:
    with pytest.raises(Invalid, match="has no value for a variable") as caught:
        runtimes.load(formats.locate(str(networks / "both")), device="/cpu:0", runtime="openvino")
    assert "Install TensorFlow" in caught.value.message


def test_the_state_of_such_a_model_is_found_and_reset(networks: Path) -> None:
    model = load(networks / "counting")
    assert state.is_stateful(model)
    for _ in range(2):
        assert [run(model, x=X).tolist() for _ in range(2)] == [[[4.0]], [[5.0]]]
        state.reset(model)


def test_tables_and_local_variables_without_a_main_op_are_initialised(tmp_path: Path) -> None:
    with v1.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.string, [None], name="x")
        words = tf.lookup.KeyValueTensorInitializer(tf.constant(["a", "b"]), tf.constant([1.0, 2.0]))
        offset = v1.get_local_variable("offset", initializer=5.0)
        y = tf.lookup.StaticHashTable(words, -1.0).lookup(x) + offset
        v1.get_variable("w", initializer=1.0)
        session.run([v1.global_variables_initializer(), v1.local_variables_initializer(), v1.tables_initializer()])
        v1.saved_model.simple_save(session, str(tmp_path / "model"), {"x": x}, {"y": y})
    assert run(load(tmp_path / "model"), x=np.array([b"b", b"z"], object)).tolist() == [7.0, 4.0]


def save_with_part_of_the_variables(folder: Path, *, signatures: list[str]) -> None:
    """`lost` is in no checkpoint: `bad` always needs it, `branch` only if x has 3 rows, `good` never."""
    describe = v1.saved_model.predict_signature_def
    with v1.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 2], name="x")
        saved, lost = (v1.get_variable(name, initializer=value) for name, value in (("saved", 2.0), ("lost", 3.0)))
        branch = tf.cond(tf.equal(tf.shape(x)[0], 3), lambda: x * lost, lambda: x * saved)
        outputs = {"good": x * saved, "bad": x * lost, "branch": branch}
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.Builder(str(folder))
        described = {name: describe({"x": x}, {"y": outputs[name]}) for name in signatures}
        builder.add_meta_graph_and_variables(session, ["serve"], described, saver=v1.train.Saver([saved]))
        builder.save()


@pytest.mark.parametrize("make", [v1.disable_control_flow_v2, v1.enable_control_flow_v2])
def test_only_signatures_that_surely_need_a_lost_variable_are_left_out(make: Any, tmp_path: Path) -> None:
    make()
    save_with_part_of_the_variables(tmp_path / "model", signatures=["good", "bad", "branch"])
    v1.enable_control_flow_v2()
    model: Any = load(tmp_path / "model")
    assert sorted(model.signatures) == ["branch", "good"]
    assert "signature 'bad' is left out: 'lost' has no value" in model.remarks[0]
    for name in ("branch", "good"):
        assert model.run({"x": X}, ["y"], name)[0].tolist() == [[2.0, 4.0]]


def test_a_model_that_can_compute_nothing_is_refused_with_the_cause(tmp_path: Path) -> None:
    save_with_part_of_the_variables(tmp_path / "model", signatures=["bad"])
    with pytest.raises(Invalid, match=re.escape("'lost' has no value, since neither the checkpoint nor")) as caught:
        load(tmp_path / "model")
    assert "Save the model again with all of its variables" in caught.value.message
