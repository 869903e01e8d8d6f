"""Every runtime computes concurrently what it computes alone, with one model converted for each of them."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.made import made_by
from tfserve import runtimes
from tfserve.errors import Invalid, Unsupported
from tfserve.models import formats
from tfserve.models.runtime_reports import ConversionGuard
from tfserve.runtimes import concurrent, state
from tfserve.runtimes.guarded import Guarded
from tfserve.runtimes.interface import Runtime, release_memory
from tfserve.tensors.specs import Array

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own

SIGNATURE = "serving_default"
FILES = {
    "tensorflow": ("contract", "tensorflow"),
    "openvino": ("openvino/model.xml", "openvino"),
    "openvino reading a SavedModel": ("contract", "openvino"),
    "litert": ("litert/model.tflite", "litert"),
    "onnxruntime": ("onnxruntime/model.onnx", "onnxruntime"),
}
READ_AGAIN = ["openvino", "onnxruntime"]


@pytest.fixture(scope="module")
def stateful_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_by(Path(__file__).with_name("make_stateful.py"), tmp_path_factory)


def load(path: Path, runtime: str) -> Runtime:
    return runtimes.load(formats.locate(str(path)), device="/cpu:0", runtime=runtime)


@pytest.fixture(scope="module", params=FILES)
def model(request: pytest.FixtureRequest, converted: Path) -> Runtime:
    path, runtime = FILES[request.param]
    return load(converted / path, runtime)


def inputs(rows: int, seed: int = 0) -> dict[str, Array]:
    x = np.random.default_rng(seed).normal(size=(rows, 2)).astype(np.float32)
    return {"count": np.arange(rows, dtype=np.int32), "x": x}


def compute(model: Runtime, given: dict[str, Array]) -> Array:
    (y,) = model.run(given, ["y"], SIGNATURE)
    return np.asarray(y)


def compute_at_once(model: Runtime, requests: list[dict[str, Array]]) -> list[Array]:
    with ThreadPoolExecutor(4) as threads:
        return list(threads.map(lambda given: compute(model, given), requests))


REQUESTS = [inputs(1 + n % 5, n) for n in range(200)]


def test_a_copy_gives_each_of_many_threads_its_own_answer(model: Runtime) -> None:
    expected = [compute(model, given) for given in REQUESTS]
    copy = concurrent.narrowed(model, 2)
    for found, one in zip(compute_at_once(copy, REQUESTS), expected, strict=True):
        np.testing.assert_array_equal(found, one)
    np.testing.assert_array_equal(compute(model, REQUESTS[0]), expected[0])


def test_a_runtime_that_says_so_can_be_called_by_many_threads(model: Runtime) -> None:
    assert concurrent.is_shareable(model) == (model.runtime in ("tensorflow", "onnxruntime"))
    if concurrent.is_shareable(model):
        expected = [compute(model, given) for given in REQUESTS]
        assert all(map(np.array_equal, compute_at_once(model, REQUESTS), expected))


def test_a_copy_can_be_closed_and_made_again(model: Runtime) -> None:
    for _ in range(2):
        copy = concurrent.narrowed(model, 2)
        np.testing.assert_array_equal(compute(copy, REQUESTS[0]), compute(model, REQUESTS[0]))
        copy.close()
    assert compute(model, REQUESTS[0]).shape == (1, 2)


def test_a_copy_that_has_returned_its_memory_computes_as_before(model: Runtime) -> None:
    copy = concurrent.narrowed(model, 2)
    compute(copy, inputs(2000))
    release_memory(copy)
    assert all(map(np.array_equal, compute_at_once(copy, REQUESTS), [compute(model, given) for given in REQUESTS]))


def test_a_guarded_model_keeps_its_guard_in_a_copy(converted: Path) -> None:
    guarded = Guarded(load(converted / "litert/model.tflite", "litert"), ConversionGuard({"x": (-10.0, 10.0)}))
    copy = concurrent.narrowed(guarded, 2)
    np.testing.assert_array_equal(compute(copy, REQUESTS[0]), compute(guarded, REQUESTS[0]))
    with pytest.raises(Invalid, match="'x' has values"):
        compute(copy, {**REQUESTS[0], "x": np.full((1, 2), 11, np.float32)})


@pytest.mark.parametrize("runtime", READ_AGAIN)
def test_files_that_have_changed_are_not_read_again(converted: Path, tmp_path: Path, runtime: str) -> None:
    path, _ = FILES[runtime]
    shutil.copytree(converted / path.partition("/")[0], tmp_path / "model")
    file = tmp_path / "model" / path.partition("/")[2]
    model = load(file, runtime)
    content = file.read_bytes()
    file.unlink()
    with pytest.raises(Invalid, match="have changed since"):
        concurrent.narrowed(model, 2)
    file.write_bytes(content)
    with pytest.raises(Invalid, match="have changed since"):
        concurrent.narrowed(model, 2)


def test_a_stateful_model_is_neither_shared_nor_copied(stateful_models: Path) -> None:
    for model in (stateful := load(stateful_models / "plain", "tensorflow"), state.stateless(stateful)):
        assert state.is_stateful(model)
        assert not concurrent.is_shareable(model)
        with pytest.raises(Unsupported):
            concurrent.narrowed(model, 2)


def test_requests_can_t_use_the_operations_of_a_copy(converted: Path) -> None:
    model = load(converted / "contract", "tensorflow")
    concurrent.narrowed(model, 2)
    for name in ("tfserve_copy_1/assign_0", "tfserve_copy_1/read_0:0"):
        with pytest.raises(Invalid, match="no output") as caught:
            model.fetches(name, SIGNATURE)
        assert "tfserve_copy_1/value" not in caught.value.message
