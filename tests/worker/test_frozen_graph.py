"""Frozen graphs of TensorFlow 1: inputs and outputs are found, or given when the model is deployed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfserve import runtimes
from tfserve.errors import Invalid, Unsupported
from tfserve.models import formats
from tfserve.runtimes.interface import Runtime
from tfserve.tensors import Signature, TensorSpec

pytestmark = pytest.mark.filterwarnings("ignore")  # TensorFlow's own

v1 = tf.compat.v1
X = np.array([[1, 2]], np.float32)


@pytest.fixture(scope="module", params=["conditions as switches", "conditions as functions"])
def frozen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """y = relu(x·w); classes of y. `hidden` is inside. Nothing uses the condition of y's assertion."""
    (v1.disable_control_flow_v2 if "switches" in request.param else v1.enable_control_flow_v2)()
    with v1.Graph().as_default() as graph, v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 2], name="x")
        w = v1.get_variable("w", initializer=[[1.0, -1.0], [2.0, 1.0]])
        hidden = tf.matmul(x, w, name="hidden")
        y = tf.nn.relu(hidden, name="y")
        tf.argmax(y, axis=1, name="classes")
        v1.assert_non_negative(y)
        session.run(v1.global_variables_initializer())
        outputs = [each.name for each in graph.get_operations() if each.type in ("ArgMax", "Assert", "If", "Merge")]
        constant = v1.graph_util.convert_variables_to_constants(session, graph.as_graph_def(), outputs)
    v1.enable_control_flow_v2()
    path = tmp_path_factory.mktemp("frozen") / "model.pb"
    path.write_bytes(constant.SerializeToString())
    return path


def load(path: Path, *, runtime: str = "auto", inputs: tuple[str, ...] = (), outputs: tuple[str, ...] = ()) -> Runtime:
    return runtimes.load(formats.locate(str(path), inputs=inputs, outputs=outputs), device="/cpu:0", runtime=runtime)


def test_inputs_are_the_placeholders_and_outputs_what_nothing_uses(frozen: Path) -> None:
    model = load(frozen)
    assert (model.format, model.runtime) == ("frozen graph", "tensorflow")
    (signature,) = model.signatures.values()
    assert signature == Signature((TensorSpec("x", "float32", (-1, 2)),), (TensorSpec("classes", "int64", (-1,)),))
    (classes,) = model.run({"x": X}, ["classes"], "serving_default")
    assert classes is not None
    assert classes.tolist() == [0]


def test_tensors_inside_are_reached_by_their_names(frozen: Path) -> None:
    model = load(frozen)
    (target,) = model.fetches("hidden", "serving_default")
    (hidden,) = model.run({"x": X}, [target.name], "serving_default")
    np.testing.assert_array_equal(np.asarray(hidden), [[5, 1]])


def test_inputs_and_outputs_may_be_given(frozen: Path) -> None:
    model = load(frozen, inputs=("hidden:0",), outputs=("y", "classes:0"))
    assert [each.name for each in model.signatures["serving_default"].outputs] == ["classes", "y"]
    (y,) = model.run({"hidden": np.array([[-1, 3]], np.float32)}, ["y"], "serving_default")
    np.testing.assert_array_equal(np.asarray(y), [[0, 3]])
    with pytest.raises(Invalid, match=r"no tensor 'hiden'.*did you mean 'hidden'"):
        load(frozen, outputs=("hiden",))


def test_openvino_reads_it_too(frozen: Path) -> None:
    model = load(frozen, runtime="openvino")
    (signature,) = model.signatures.values()
    assert signature.inputs == (TensorSpec("x", "float32", (-1, 2)),)
    (classes,) = model.run({"x": X}, [signature.outputs[-1].name], "serving_default")
    np.testing.assert_array_equal(np.asarray(classes), [0])
    with pytest.raises(Unsupported, match="needs the runtime tensorflow"):
        load(frozen, runtime="openvino", outputs=("y",))


def test_a_frozen_graph_without_its_end_is_refused(frozen: Path, tmp_path: Path) -> None:
    whole = frozen.read_bytes()
    (tmp_path / "half.pb").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Invalid, match="copied to its end"):
        load(tmp_path / "half.pb")
