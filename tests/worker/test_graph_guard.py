"""Requests to a TensorFlow model can only compute: no name reaches files, weights or code."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from tfserve import runtimes
from tfserve.models import formats
from tfserve.runtimes import tensorflow
from tfserve.runtimes.interface import Runtime
from tfserve.runtimes.operation_check import UnsafeOperations
from tfserve.worker.model.predictor import Predictor

pytestmark = pytest.mark.filterwarnings("ignore")  # TensorFlow's own

v1 = tf.compat.v1


class Model:
    """A loaded model, asked as `/predict/` asks it."""

    def __init__(self, path: Path, load: Callable[..., Runtime] = runtimes.load, **options: bool) -> None:
        self.runtime: Runtime = load(formats.locate(str(path)), device="/cpu:0", **options)
        self.remarks: list[str] = self.runtime.remarks  # type: ignore[attr-defined]
        self._predictor = Predictor(self.runtime)

    def __call__(self, fetches: Any, feeds: dict[str, Any] | None = None, **fields: str) -> Any:
        request = json.dumps({"fetches": fetches, "feed_dict": feeds, **fields}).encode()
        (answer,) = self._predictor.predict([request])
        return json.loads(answer.result) if answer.result is not None else json.loads(answer.error or b"")["message"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A meta graph as trainings of TensorFlow 1 left them: a saver, an optimizer, batch normalization, a queue."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "words.txt").write_text("cat\ndog\n")
    with v1.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 2], name="x")
        training = v1.placeholder_with_default(False, [], name="training")
        phase = v1.placeholder(tf.bool, [], name="phase")
        w = v1.get_variable("w", initializer=[[1.0], [2.0]], use_resource=False)
        mean = v1.get_variable("mean", initializer=1.0, trainable=False, use_resource=False)
        y = tf.identity(x @ w, name="y")

        def normalized(pred: Any, name: str) -> Any:
            def forced() -> Any:
                with tf.control_dependencies([v1.assign_sub(mean, 0.5)]):
                    return tf.identity(y)

            return tf.identity(v1.cond(pred, forced, lambda: y), name=name)

        v1.disable_control_flow_v2()  # conditions as TensorFlow 1 wrote them
        normalized(phase, "embeddings")
        normalized(training, "logits")
        normalized(tf.constant(value=False), "never")
        v1.enable_control_flow_v2()
        loss = tf.reduce_mean(tf.square(y), name="loss")
        v1.train.MomentumOptimizer(0.1, 0.9).minimize(loss, name="train")
        queue = v1.FIFOQueue(10, [tf.float32], [[2]])
        batch = queue.dequeue_many(2, name="batch")
        tf.multiply(batch, 2.0, name="doubled")
        path = v1.placeholder(tf.string, [], name="path")
        content = tf.io.read_file(path, name="content")
        tf.strings.length(content, name="length")
        tf.io.write_file(path, tf.as_string(loss, name="told"), name="write")
        tf.identity(v1.py_func(lambda value: value, [x], tf.float32), name="python")
        table = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(
                str(folder / "words.txt"), tf.string, tf.lookup.TextFileIndex.WHOLE_LINE,
                tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER,
            ), -1,
        )  # fmt: skip
        word = v1.placeholder(tf.string, [None], name="word")
        tf.identity(table.lookup(word), name="number")
        v1.add_to_collection("outputs", y)
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        saver = v1.train.Saver()
        saver.save(session, str(folder / "model"))
    return Model(folder / "model")


X = {"x": [[1, 1]]}


@pytest.mark.parametrize(
    ("fetches", "feeds", "expected"),
    [
        ("outputs", X, [[[3.0]]]),
        ("y:0", X, [[[3.0]]]),
        (["loss", "w"], X, [9.0, [[1.0], [2.0]]]),
        ("loss", {"y:0": [[2]]}, [4.0]),
        ("loss", {"x": [[1, 1]], "w:0": [[1], [1]]}, [4.0]),
        ("embeddings", {**X, "phase": False}, [[[3.0]]]),
        (["logits", "never"], X, [[[3.0]], [[3.0]]]),
        ("logits", {**X, "training": False}, [[[3.0]]]),
        ("number", {"word": ["dog", "cow"]}, [[1, -1]]),
        ("length", {"content:0": "abc"}, [3]),
        ("doubled", {"batch:0": [[1, 2], [3, 4]]}, [[[2.0, 4.0], [6.0, 8.0]]]),
        ("gradients/y_grad/Reshape", None, None),
        ("python", {"PyFunc:0": [[1, 2]]}, [[[1.0, 2.0]]]),
        ("save/Const:0", None, ["model"]),
    ],
)
def test_ordinary_tensors_and_collections_of_a_trained_graph_are_reached(
    trained: Model, fetches: Any, feeds: Any, expected: Any
) -> None:
    if expected is not None:
        assert trained(fetches, feeds) == expected


@pytest.mark.parametrize(
    ("fetches", "feeds"),
    [
        ("save/control_dependency", None),
        ("save/SaveV2", None),
        ("save/RestoreV2:0", None),
        ("save/restore_all", None),
        (["y", "save/restore_all"], X),
        ("save/Assign", None),
        ("save/control_dependency", {"save/Const:0": "/tmp/anywhere"}),
        ("save/restore_all", {"save/RestoreV2/tensor_names:0": ["mean"]}),
        ("y", {**X, "save/Const:0": "/tmp/anywhere"}),
        ("y", {**X, "save/filename": "/tmp/anywhere"}),
        ("y", {**X, "save/RestoreV2/shape_and_slices:0": ["", "", ""]}),
        ("train", X),
        ("train_op", X),
        ("w/Assign", {"w/initial_value:0": [[5], [5]]}),
        ("w/Assign", None),
        ("init", None),
        ("Momentum/learning_rate:0", {"save/SaveV2/tensor_names:0": ["a"]}),
        ("embeddings", {**X, "phase": True}),
        ("logits", {**X, "training": True}),
        ("cond/AssignSub", {**X, "phase": True}),
        ("cond/AssignSub:0", {"cond/switch_t:0": True, "phase": False}),
        ("embeddings", {**X, "phase": False, "cond/AssignSub/Switch:1": 3.0, "cond/switch_t:0": True}),
        ("batch", None),
        ("doubled", None),
        ("content", {"path": "/etc/hostname"}),
        ("length", {"path": "/etc/hostname"}),
        ("y", {**X, "path": "/etc/hostname"}),
        ("write", {"path": "/tmp/anywhere", "told:0": "x"}),
        ("python", X),
        ("init_all_tables", None),
        ("table_initializer", None),
    ],
)
def test_names_that_reach_a_side_effect_can_not_be_fed_or_fetched(trained: Model, fetches: Any, feeds: Any) -> None:
    for _ in range(2):  # not the second time either
        refusal = trained(fetches, feeds)
        assert isinstance(refusal, str), refusal
    assert trained(["w", "mean"]) == [[[1.0], [2.0]], 1.0]


def test_a_refusal_says_which_operation_has_the_side_effect_and_what_to_feed(trained: Model) -> None:
    assert "'save/SaveV2', which has a side effect (SaveV2)" in trained("save/control_dependency")
    assert "'phase:0' must be false" in trained("embeddings", {**X, "phase": True})
    assert "'path:0' can't be fed: it determines which file ReadFile" in trained("y", {**X, "path": "a"})


class Owner(tf.Module):
    """What the owner of a model may declare: state, files that belong to it; and what no server may offer."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.calls = tf.Variable(0, dtype=tf.int64)
        self.weights = tf.Variable([1.0, 2.0])
        self.asset = tf.saved_model.Asset(str(folder / "greeting.txt"))
        self.target = str(folder / "written")

    @tf.function(input_signature=[tf.TensorSpec([], tf.int64, name="by")])
    def count(self, by: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"calls": self.calls.assign_add(by), "by": by + 1}

    @tf.function(input_signature=[tf.TensorSpec([], tf.string, name="name")])
    def greet(self, name: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"greeting": tf.strings.join([tf.io.read_file(self.asset.asset_path), name])}

    @tf.function(input_signature=[tf.TensorSpec([], tf.float32, name="x")])
    def plain(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        total = tf.data.Dataset.range(3).reduce(tf.constant(0, tf.int64), lambda a, b: a + b)
        return {"y": x * tf.reduce_sum(self.weights) + tf.cast(total, tf.float32)}

    @tf.function(input_signature=[tf.TensorSpec([], tf.string, name="path")])
    def read(self, path: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"content": tf.cond(tf.strings.length(path) > 0, lambda: tf.io.read_file(path), lambda: path)}

    @tf.function(input_signature=[tf.TensorSpec([], tf.string, name="path")])
    def lines(self, path: tf.Tensor) -> dict[str, tf.Tensor]:
        lines = tf.data.TextLineDataset(path)
        return {"n": lines.reduce(tf.constant(0), lambda n, _: n + 1)}

    @tf.function(input_signature=[tf.TensorSpec([], tf.string, name="text")])
    def write(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        for _ in tf.range(2):
            tf.io.write_file(self.target, text)
        return {"text": text}

    @tf.function(input_signature=[tf.TensorSpec([], tf.string, name="checkpoint_path")])
    def restore(self, checkpoint_path: tf.Tensor) -> dict[str, tf.Tensor]:
        (value,) = tf.raw_ops.RestoreV2(
            prefix=checkpoint_path, tensor_names=["weights"], shape_and_slices=[""], dtypes=[tf.float32]
        )
        self.weights.assign(tf.reshape(value, [2]))
        return {"weights": self.weights.read_value()}

    @tf.function(input_signature=[tf.TensorSpec([], tf.float32, name="x")])
    def python(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.ensure_shape(tf.py_function(lambda value: value, [x], tf.float32), [])}


NEVER = ["lines", "python", "read", "restore", "write"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("owned")
    (folder / "greeting.txt").write_text("hello ")
    owner = Owner(folder)
    names = ["count", "greet", "plain", *NEVER]
    tf.saved_model.save(owner, str(folder / "model"), signatures={name: getattr(owner, name) for name in names})
    return folder


@pytest.fixture(scope="module")
def owned(folder: Path) -> Iterator[Model]:
    """Loaded without the check of its files, as if that had overlooked something."""
    model = Model(folder / "model", tensorflow.load)
    yield model
    assert not (folder / "written").exists()


def test_a_model_with_unsafe_signatures_is_refused_as_a_whole_before_it_is_loaded(folder: Path) -> None:
    with pytest.raises(UnsafeOperations) as refusal:
        Model(folder / "model")
    message = str(refusal.value)
    assert "WriteFile ('while/WriteFile' in function 'while_body_" in message
    assert "TFSERVE_ALLOW_UNSAFE_OPS=1" in message
    for operation in ("EagerPyFunc", "TextLineDataset", "RestoreV2", "ReadFile ('cond/ReadFile'"):
        assert operation in message


def test_a_model_with_unsafe_signatures_is_served_if_the_operator_allows_it(folder: Path, tmp_path: Path) -> None:
    model = Model(folder / "model", allow_unsafe=True)
    assert {"greet", *NEVER} <= set(model.runtime.signatures)
    assert "it has unsafe operations, which this server allows: " in model.remarks[-1]
    (tmp_path / "text").write_text("a\nb\n")
    assert model("n", {"path": str(tmp_path / "text")}, signature="lines") == [2]


def test_signatures_that_write_restore_run_code_or_read_any_file_are_left_out(owned: Model) -> None:
    assert sorted(owned.runtime.signatures) == ["count", "greet", "plain"]
    assert [remark.split("'")[1] for remark in owned.remarks] == NEVER
    assert "signature 'write' is not available: it runs WriteFile" in owned("text", {"text": "a"}, signature="write")
    assert "its input 'read_path:0' determines which file ReadFile reads" in owned(
        "content", {"path": "a"}, signature="read"
    )


def test_what_a_signature_declares_is_computed_with_its_state_and_its_own_files(owned: Model) -> None:
    before = owned("calls", {"by": 0}, signature="count")[0]
    assert owned(["calls", "by"], {"by": 2}, signature="count") == [before + 2, 3]
    assert owned("greeting", {"name": "you"}, signature="greet") == ["hello you"]
    assert owned("y", {"x": 2}, signature="plain") == [9.0]


def inner(model: Model, wanted: Callable[[Any], bool]) -> list[str]:
    graph = model.runtime._session.graph  # type: ignore[attr-defined]
    return [each.name for each in graph.get_operations() if wanted(each)]


def test_a_signature_can_not_be_redirected_by_feeding_its_inside(owned: Model) -> None:
    """The path of an asset is in a variable, which is read outside of the signature's function."""
    strings = inner(
        owned,
        lambda each: "Call" not in each.type and any(output.dtype == tf.string for output in each.outputs),
    )
    assert {"asset_path_initializer", "Const", "ReadVariableOp"} <= set(strings)
    answers = {
        name: owned("greeting", {"name": "you", f"{name}:0": "/etc/hostname"}, signature="greet") for name in strings
    }
    assert "determines which file ReadFile reads" in answers["ReadVariableOp"]
    assert all(isinstance(each, str) or each == ["hello you"] for each in answers.values())


def test_every_call_of_a_function_computes_or_is_refused(owned: Model) -> None:
    calls = inner(owned, lambda each: "PartitionedCall" in each.type)
    placeholders = inner(owned, lambda each: each.type == "Placeholder")
    assert len(calls) > len(NEVER)
    for call in calls:
        for placeholder in placeholders:
            for target in (call, f"{call}:0"):
                owned(target, {placeholder: "/tmp/anywhere"}, signature="plain")
    assert isinstance(owned("y", {"x": 2, "saver_filename": "/tmp/anywhere"}, signature="plain"), str)
    assert owned("y", {"x": 2}, signature="plain") == [9.0]
