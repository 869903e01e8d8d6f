"""A model worker, with every format of model that TensorFlow makes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from worker_process import StartWorker, WorkerProcess

from tfserve.ipc.messages import (
    BecomeModel,
    ClearVariables,
    Failed,
    ModelLoaded,
    ModelOptions,
    Predict,
    Predictions,
)


def asks(fetches: str | list[str], feed_dict: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    return {"fetches": fetches, "feed_dict": feed_dict, **fields}


class Deployed:
    """A worker with a model whose files are gone as soon as it is loaded."""

    def __init__(self, folder: Path, models: Path, name: str, **fields: Any) -> None:
        files, own = folder / "files", folder / "own"
        own.mkdir()
        shutil.copytree(models, files, ignore=lambda _, names: {each for each in names if each == "failing"})
        self.worker = WorkerProcess(own, "--warm")
        weights = {"weights": str(files / fields.pop("weights"))} if "weights" in fields else {}
        loaded = self.worker.load(files / name, **weights, **fields)
        assert isinstance(loaded, ModelLoaded), loaded
        self.loaded = loaded
        shutil.rmtree(files)

    def predict(self, *requests: dict[str, Any]) -> list[Any]:
        return self.worker.predict(*requests)

    def one(self, *args: Any, **fields: Any) -> Any:
        return self.predict(asks(*args, **fields))[0]


def deployed(tmp_path_factory: pytest.TempPathFactory, models: Path, name: str, **fields: Any) -> Iterator[Deployed]:
    model = Deployed(tmp_path_factory.mktemp("deployed"), models, name, **fields)
    yield model
    model.worker.end()


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[Deployed]:
    yield from deployed(tmp_path_factory, models, "versions")


@pytest.fixture(scope="module")
def meta_graph(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[Deployed]:
    sample = json.dumps(asks("y", {"x": [[1, 1]]})).encode()
    yield from deployed(tmp_path_factory, models, "one", sample=sample)


# --- a TF2 SavedModel


def test_loading_tells_format_version_signatures_and_memory(saved_model: Deployed) -> None:
    loaded = saved_model.loaded
    assert (loaded.format, loaded.version) == ("SavedModel", 10)
    assert loaded.signatures["serving_default"]["inputs"] == [{"name": "x", "dtype": "float32", "shape": [-1, 2]}]
    assert [spec["name"] for spec in loaded.signatures["serving_default"]["outputs"]] == ["total", "y"]
    assert not any(name.startswith("__") for name in loaded.signatures)
    assert loaded.warm_up.startswith("signature 'serving_default' with zeros; batches of 1, ")
    assert loaded.memory_bytes > 10**7


def test_outputs_come_in_the_order_they_are_asked_for(saved_model: Deployed) -> None:
    assert saved_model.one(["total", "y", "total"], {"x": [[1, 2]]}) == [[3.0], [[3.0, 6.0]], [3.0]]


def test_tensors_are_reached_by_their_names_too(saved_model: Deployed) -> None:
    assert saved_model.one("Variable/Read/ReadVariableOp:0") == [3.0]
    assert saved_model.one("Variable") == [3.0]
    assert saved_model.one("y", {"serving_default_x:0": [[1, 2]]}) == [[[3.0, 6.0]]]


def test_a_large_integer_stays_exact(saved_model: Deployed) -> None:
    assert saved_model.one("n", {"n": [2**53 + 1, -(2**63)]}, signature="exact") == [[2**53 + 1, -(2**63)]]


def test_text_and_bytes_go_in_and_out_and_tables_work(saved_model: Deployed) -> None:
    fed = {"word": ["cat", {"b64": "/w=="}]}
    assert saved_model.one(["number", "shout"], fed, signature="words") == [[1, -1], ["cat!", {"b64": "/yE="}]]


def test_halves_are_numbers_and_infinities_null(saved_model: Deployed) -> None:
    found = saved_model.one(["half", "brain", "log"], {"x": [0.5, 0, -1]}, signature="odd")
    assert found[:2] == [[0.5, 0.0, -1.0], [0.5, 0.0, -1.0]]
    assert found[2] == [pytest.approx(-0.6931472), None, None]


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (
            asks("zz", {"x": [[1, 2]]}),
            "no output 'zz'. There are: outputs of the signature 'serving_default': 'total', 'y'",
        ),
        (asks("y", {"xs": [[1, 2]]}), "no input 'xs'"),
        (asks("totl", {"x": [[1, 2]]}), "(did you mean 'total'?)"),
        (asks("y", {"x": [[1, 2]]}, signature="serve"), "no signature 'serve'"),
        (asks("y", {"x": [[1, 2]]}, signature="wordz"), "(did you mean 'words'?)"),
        (asks("y"), "feed_dict lacks 'x'"),
        (asks("y", {"x": [[1, 2]], "serving_default_x:0": [[1, 2]]}), "both 'serving_default_x:0'"),
        (asks("y", {"x": [[1, 2, 3]]}), "takes float32 of shape [-1, 2]; a value of shape [1, 3] was given"),
        (asks("n", {"n": [1.0]}, signature="exact"), "whole numbers"),
        (asks("n", {"n": [2**63]}, signature="exact"), "that int64 can't hold"),
        (asks("y", {"x": [-1]}, signature="positive"), "x is negative"),
        (asks("y", {"rows": -1}, signature="huge"), "must be >= 0"),
    ],
)
def test_a_request_that_can_t_be_computed_is_told_why(saved_model: Deployed, request_: Any, words: str) -> None:
    (error,) = saved_model.predict(request_)
    assert error["code"] == "invalid"
    assert words in error["message"]
    assert "Traceback" not in error["message"]


def test_a_result_that_is_too_large_is_refused(saved_model: Deployed) -> None:
    error = saved_model.one("y", {"rows": 40_000}, signature="huge")
    assert error["code"] == "too_large"
    assert "[40000, 1024]" in error["message"]


def test_requests_together_give_the_same_as_alone(saved_model: Deployed) -> None:
    requests = [asks("y", {"x": [[n, 2 * n]] * (1 + n % 3)}) for n in range(20)]
    alone = [saved_model.predict(request)[0] for request in requests]
    for _ in range(4):
        assert saved_model.predict(*requests) == alone


def test_rows_of_requests_are_never_mixed(saved_model: Deployed) -> None:
    requests = [asks("y", {"x": [[n, n], [0, n]]}, signature="centred") for n in range(5)]
    for _ in range(4):
        answers = saved_model.predict(*requests)
        assert answers == [[[[n / 2, 0], [-n / 2, 0]]] for n in range(5)]


def test_one_bad_request_among_others_fails_alone(saved_model: Deployed) -> None:
    requests = [asks("y", {"x": [n]}, signature="positive") for n in (4, -1, 9)]
    for _ in range(4):
        saved_model.predict(requests[0], requests[2])
        first, second, third = saved_model.predict(*requests)
        assert (first, third) == ([[2.0]], [[3.0]])
        assert "x is negative" in second["message"]


# --- a TF1 meta graph


def test_a_meta_graph_is_warmed_up_by_a_former_request(meta_graph: Deployed) -> None:
    assert (meta_graph.loaded.format, meta_graph.loaded.version) == ("TF1 meta graph", None)
    assert meta_graph.loaded.warm_up == "no signature to warm up by; a former request"


def test_a_collection_gives_all_its_tensors_and_takes_one_value(meta_graph: Deployed) -> None:
    assert meta_graph.one("outputs", {"inputs": [[1, 1]], "offsets": 5}) == [[[3.0]], [[8.0]]]
    assert meta_graph.one(["offset:0", "outputs"], {"x:0": [[1, 1]], "offset": 1}) == [1.0, [[3.0]], [[4.0]]]


def test_variables_text_and_tensors_of_the_graph_are_reached(meta_graph: Deployed) -> None:
    assert meta_graph.one(["trainable_variables", "w:0", "w"]) == [[[1.0], [2.0]]] * 3
    assert meta_graph.one("text") == [["abc", {"b64": "/w=="}]]
    assert meta_graph.one("matmul:0", {"x": [[1, 1]]}) == [[[3.0]]]


def test_an_inner_tensor_can_be_fed(meta_graph: Deployed) -> None:
    assert meta_graph.one("shifted", {"y:0": [[1], [2]], "offset": 1}) == [[[2.0], [3.0]]]


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (asks("outputz"), "(did you mean 'outputs'?). There are: collections: 'centred', 'inputs'"),
        (asks("outputs", {"x": [[1, 1]]}), "lacks 'offset:0'"),
        (asks("y", {"x": [[1, 1]]}, signature="mine"), "no signature 'mine'"),
        (asks("y", {"train": 1}), "can't be given a value"),
    ],
)
def test_a_request_that_the_graph_can_t_answer_is_told_why(meta_graph: Deployed, request_: Any, words: str) -> None:
    (error,) = meta_graph.predict(request_)
    assert words in error["message"]


def test_rows_are_not_mixed_in_a_graph_without_signatures(meta_graph: Deployed) -> None:
    requests = [asks("centred", {"x": [[n, 0], [0, 0]]}) for n in range(4)]
    for _ in range(4):
        assert meta_graph.predict(*requests) == [[[[n / 2], [-n / 2]]] for n in range(4)]


def test_other_weights_are_loaded_and_no_request_changes_them(start_worker: StartWorker, models: Path) -> None:
    worker = start_worker()
    assert isinstance(worker.load(models / "one.meta", weights=str(models / "two")), ModelLoaded)
    for name in ("train", "AssignAddVariableOp", "save/restore_all"):
        (error,) = worker.predict(asks(["w", name]))
        assert "side effect" in error["message"]
    assert worker.predict(asks("w")) == [[[[10.0], [20.0]]]]


# --- the other formats


@pytest.mark.parametrize(
    ("name", "kind", "request_", "expected"),
    [
        ("v1", "SavedModel", asks("score", {"features": [[1, 2, 3]], "k": 2}), [[[4.0, 8.0, 12.0]]]),
        ("dense.keras", "Keras file", asks("dense", {"x": [[1, 2]]}), [[[3.0]]]),
        pytest.param("dense.h5", "Keras HDF5 file", asks("dense", {"x": [[1, 2]]}), [[[3.0]]], marks=pytest.mark.slow),
    ],
)
def test_a_model_answers_when_its_files_are_gone(
    tmp_path: Path, models: Path, name: str, kind: str, request_: Any, expected: Any
) -> None:
    model = Deployed(tmp_path, models, name)
    assert model.loaded.format == kind
    assert model.predict(request_) == [expected]
    assert model.worker.stop() == 0
    model.worker.end()


# --- failures


def test_a_model_that_refuses_whatever_is_made_up_is_served_with_a_remark(
    start_worker: StartWorker, models: Path
) -> None:
    worker = start_worker()
    loaded = worker.load(models / "failing")
    assert isinstance(loaded, ModelLoaded)
    (remark,) = loaded.remarks
    assert remark.startswith("not warmed up")
    assert "never right" in remark
    assert worker.predict(asks("y", {"x": [-2]})) == [[[-2.0]]]


def test_a_meta_graph_that_can_t_answer_a_former_request_is_served_with_a_remark(
    start_worker: StartWorker, models: Path
) -> None:
    sample = json.dumps(asks("gone", {"x": [[1, 1]]})).encode()
    loaded = start_worker().load(models / "one", sample=sample)
    assert isinstance(loaded, ModelLoaded)
    (remark,) = loaded.remarks
    assert "no output 'gone'" in remark


def test_the_first_answer_of_a_stateful_model_is_its_first(start_worker: StartWorker, models: Path) -> None:
    worker = start_worker()
    loaded = worker.load(models / "count", sample=json.dumps(asks("calls", {"n": 1})).encode())
    assert isinstance(loaded, ModelLoaded)
    assert loaded.is_stateful
    assert loaded.remarks == ["stateful: callers share its state"]
    assert worker.predict(*[asks("calls", {"n": 1})] * 3) == [[1], [2], [3]]


@pytest.mark.slow
def test_a_stateless_deployment_resets_the_state_before_each_call(start_worker: StartWorker, models: Path) -> None:
    worker = start_worker()
    loaded = worker.load(models / "count", options=ModelOptions(stateless=True))
    assert isinstance(loaded, ModelLoaded)
    assert loaded.remarks == ["stateful, but its state is reset before each call (stateless: true)"]
    assert worker.predict(*[asks("calls", {"n": 1})] * 3) == [[1], [1], [1]]


def test_a_missing_model_is_told_before_tensorflow_is_imported(start_worker: StartWorker, tmp_path: Path) -> None:
    worker = start_worker()
    failed = worker.load(tmp_path / "nothing")
    assert isinstance(failed, Failed)
    assert failed.failure.code == "invalid"
    maps = Path(f"/proc/{worker.process.pid}/maps").read_text()
    assert "tensorflow" not in maps
    assert worker.ask(Predict(requests=[]), Failed).failure.code == "invalid"
    assert worker.stop() == 0


def test_an_echo_model_answers_without_tensorflow(start_worker: StartWorker, tmp_path: Path) -> None:
    (tmp_path / "5").mkdir()
    path = tmp_path / "5" / "model.echo"
    path.write_text('{"x": {"dtype": "string", "shape": [-1]}}')
    worker = start_worker()
    sample = json.dumps(asks("y")).encode()
    loaded = worker.load(path, sample=sample)
    assert isinstance(loaded, ModelLoaded)
    assert (loaded.format, loaded.version) == ("echo", 5)
    assert "a former request was refused" in loaded.warm_up
    assert worker.predict(asks("x", {"x": ["a"]}), asks("x", {"x": ["b"]})) == [[["a"]], [["b"]]]
    assert "tensorflow" not in Path(f"/proc/{worker.process.pid}/maps").read_text()
    assert worker.ask(ClearVariables(workspace="w"), Failed).failure.code == "invalid"


def test_a_worker_without_a_role_refuses_work_and_takes_one_later(start_worker: StartWorker, tmp_path: Path) -> None:
    worker = start_worker()
    assert "without a role" in worker.ask(Predict(requests=[]), Failed).failure.message
    assert isinstance(worker.ask(BecomeModel(workspace="w", path=str(tmp_path))), Failed)


def test_a_warm_worker_says_so_and_has_tensorflow(saved_model: Deployed) -> None:
    assert saved_model.worker.ready.warm
    assert isinstance(saved_model.worker.ask(Predict(requests=[])), Predictions)
