"""A worker that converts: real converters, real models, and what is told of each."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from worker_process import WorkerProcess

from tfserve import runtimes
from tfserve.ipc.messages import Convert, Converted, Done, Failed, IdentifyModel
from tfserve.models import formats
from tfserve.models.runtime_reports import CANDIDATES, TENSORFLOW, ConversionGuard, Conversions, RuntimeTrial

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # warnings of the libraries


class Trials:
    """One worker for all candidates; a server takes one for each."""

    def __init__(self, folder: Path) -> None:
        own = folder / "worker"
        own.mkdir()
        self.worker = WorkerProcess(own, "--warm")
        self.conversions = Conversions(folder / "conversions")

    def key(self, model: Path, precision: str = "float32") -> str:
        return str(self.worker.ask(IdentifyModel(path=str(model), precision=precision), Done).value)

    def ask(self, candidate: str, model: Path, work: Path, **fields: object) -> Converted | Failed:
        options = {"key": self.key(model), **fields}
        return self.worker.ask(Convert(candidate=candidate, path=str(model), work_folder=str(work), **options))

    def run(
        self, model: Path, *candidates: str, precision: str = "float32", samples: Sequence[bytes] = ()
    ) -> tuple[Path, dict[str, RuntimeTrial]]:
        """The work folder, and what was found of TensorFlow and of each candidate."""
        key = self.key(model, precision)
        work, found = self.conversions.begin(key), {}
        for candidate in (TENSORFLOW, *candidates):
            answer = self.ask(candidate, model, work, key=key, precision=precision, samples=list(samples))
            assert isinstance(answer, Converted), answer
            found[candidate] = answer.trial
        return work, found


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trials]:
    with_worker = Trials(tmp_path_factory.mktemp("trials"))
    yield with_worker
    with_worker.worker.end()


def test_a_keras_file_is_converted_for_every_runtime_and_the_fastest_serves(trials: Trials, converted: Path) -> None:
    model = converted / "network.keras"
    work, found = trials.run(model, *CANDIDATES["float32"])
    assert all(trial.ok for trial in found.values()), found
    for trial in (found[name] for name in CANDIDATES["float32"]):
        assert trial.max_abs_diff is not None
        assert trial.max_abs_diff < 1e-2
        assert trial.same_classes == 1.0
        assert trial.compared == found[TENSORFLOW].compared > 40
        assert trial.guard is not None
        assert trial.guard.ranges["images"][1] >= 255
        assert trial.best_s.keys() == {"1", "8"}
        assert trial.p50_s is not None
        assert trial.p50_s >= trial.best_s["1"]
        assert trial.size_bytes
    for name, trial in found.items():
        again = trials.ask(name, model, work, again=trial)
        assert isinstance(again, Converted), again
        assert again.trial.best_s.keys() == trial.best_s.keys()
        assert 0 < again.trial.cost_s <= trial.cost_s
        assert again.trial.path == trial.path
    report = trials.conversions.end(trials.key(model), work, list(found.values()), precision="float32")
    assert report.chosen in ("litert", "onnxruntime", "openvino")
    assert trials.conversions.find(trials.key(model)) == report
    runtime = runtimes.load(formats.locate(report.path), device="/cpu:0", runtime=report.chosen)
    (signature,) = runtime.signatures.values()
    assert [spec.name for spec in signature.outputs] == ["chances", "size"]
    chances, size = runtime.run({"images": np.zeros((2, 8, 8, 3), np.float32)}, ["chances", "size"], "serving_default")
    assert chances is not None
    assert size is not None
    assert (chances.shape, size.shape) == ((2, 3), (2, 1))


def test_what_computes_whole_numbers_with_fewer_bits_is_given_no_larger_ones(trials: Trials, converted: Path) -> None:
    _, found = trials.run(converted / "wide", "openvino", "onnxruntime")
    assert found["openvino"].guard is not None
    assert 2**20 <= found["openvino"].guard.ranges["n"][1] < 2**31 / 3
    assert found["onnxruntime"].ok, found["onnxruntime"].reason
    assert found["onnxruntime"].guard == ConversionGuard(), "all numbers of the type agree"


def test_a_model_with_random_numbers_is_left_to_tensorflow(trials: Trials, converted: Path) -> None:
    _, found = trials.run(converted / "random", "openvino")
    assert found[TENSORFLOW].ok
    assert found[TENSORFLOW].compared == 0
    assert "different numbers each time" in found["openvino"].reason
    assert not found["openvino"].ok


def test_text_is_compared_by_real_requests_only(trials: Trials, converted: Path) -> None:
    _, found = trials.run(converted / "words", "openvino")
    assert "input 'word' is of the type string" in found["openvino"].reason
    assert found[TENSORFLOW].needs_samples
    samples = [json.dumps({"fetches": "length", "feed_dict": {"word": ["four", "a" * n]}}).encode() for n in range(8)]
    _, found = trials.run(converted / "words", "openvino", samples=samples[:7])
    assert found[TENSORFLOW].needs_samples
    assert found[TENSORFLOW].compared == 0
    _, found = trials.run(converted / "words", "openvino", "litert", "onnxruntime", samples=samples)
    assert found[TENSORFLOW].compared > 8
    assert found[TENSORFLOW].best_s.keys() == {"8"}
    assert "StringLength" in found["openvino"].reason
    assert not any(found[name].ok for name in CANDIDATES["float32"])


def test_numbers_that_a_check_in_the_model_refuses_are_never_computed_by_a_conversion_without_it(
    trials: Trials, converted: Path
) -> None:
    _, found = trials.run(converted / "checked", "openvino")
    assert found["openvino"].guard is not None
    assert found["openvino"].guard.ranges["x"][0] == 0


def test_a_check_that_is_no_range_keeps_a_model_with_tensorflow(trials: Trials, converted: Path) -> None:
    _, found = trials.run(converted / "even", "openvino")
    assert not found["openvino"].ok
    assert "for only one value of 'n'" in found["openvino"].reason


def test_a_table_is_read_only_as_far_as_it_goes(trials: Trials, converted: Path) -> None:
    _, found = trials.run(converted / "table", "openvino", "onnxruntime")
    for name in ("openvino", "onnxruntime"):
        assert found[name].guard == ConversionGuard({"at": (0, 99)}), found[name]


def test_a_class_below_zero_is_never_counted_from_the_end(trials: Trials, converted: Path) -> None:
    _, found = trials.run(converted / "classes", "litert", "onnxruntime")
    assert found["onnxruntime"].guard == ConversionGuard({"n": (0, 255)}), found["onnxruntime"]
    assert found["litert"].guard == ConversionGuard()


def test_variables_that_the_saver_does_not_restore_have_their_values_in_every_runtime(
    trials: Trials, converted: Path
) -> None:
    work, found = trials.run(converted / "copies", *CANDIDATES["float32"])
    assert all(trial.ok for trial in found.values()), found
    for name in CANDIDATES["float32"]:
        runtime = runtimes.load(formats.locate(str(work / found[name].path)), device="/cpu:0", runtime=name)
        (y,) = runtime.run({"x": np.array([[1, 2]], np.float32)}, ["y"], "serving_default")
        assert np.asarray(y).tolist() == [[33.0]]


def test_what_can_not_be_loaded_as_objects_is_converted_from_its_frozen_graph(trials: Trials, converted: Path) -> None:
    _, found = trials.run(converted / "slots", "onnxruntime")
    assert all(trial.ok for trial in found.values()), found


def test_a_stateful_model_is_never_converted_not_even_for_a_requested_runtime(trials: Trials, converted: Path) -> None:
    model = converted / "counter"
    key = trials.key(model)
    work = trials.conversions.begin(key)
    trials.ask(TENSORFLOW, model, work, key=key)
    answer = trials.ask("litert", model, work, key=key, was_requested=True)
    assert isinstance(answer, Converted)
    assert not answer.trial.ok
    assert "stateful" in answer.trial.reason


def test_a_requested_runtime_is_converted_for_even_if_nothing_can_be_compared(trials: Trials, converted: Path) -> None:
    model = converted / "open"
    key = trials.key(model)
    work = trials.conversions.begin(key)
    trials.ask(TENSORFLOW, model, work, key=key)
    answer = trials.ask("openvino", model, work, key=key, was_requested=True)
    assert isinstance(answer, Converted)
    assert answer.trial.ok
    assert answer.trial.compared == 0
    assert "no inputs of the right size can be generated" in answer.trial.reason


@pytest.mark.parametrize(
    ("name", "range_"),
    [
        ("open_table", (0, 9)),  # TensorFlow rejects others, and some libraries do not
        ("open_classes", (0, 2**31 - 1)),  # a class of -1 is none, or the last
        ("open_thirteen", (1, 0)),  # no inputs can be made up, so nothing is known
    ],
)
def test_whole_numbers_are_limited_even_if_nothing_can_be_compared(
    trials: Trials, converted: Path, name: str, range_: tuple[int, int]
) -> None:
    model = converted / name
    key = trials.key(model)
    work = trials.conversions.begin(key)
    trials.ask(TENSORFLOW, model, work, key=key, was_requested=True)
    answer = trials.ask("openvino", model, work, key=key, was_requested=True)
    assert isinstance(answer, Converted)
    assert answer.trial.ok
    assert answer.trial.guard is not None
    assert list(answer.trial.guard.ranges.values()) == [range_]


def test_fewer_bits_are_computed_with_when_requested(trials: Trials, converted: Path) -> None:
    work, found = trials.run(converted / "network.keras", "litert", precision="int8")
    assert found["litert"].path == "litert/model.tflite"
    assert found["litert"].max_abs_diff
    assert (work / "litert" / "model.tflite").stat().st_size == pytest.approx(found["litert"].size_bytes, rel=0.5)


def test_files_that_change_meanwhile_are_not_taken_for_those_before(
    trials: Trials, converted: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(converted / "contract", model)
    key = trials.key(model)
    shutil.copy(converted / "wide" / "saved_model.pb", model)
    answer = trials.ask(TENSORFLOW, model, trials.conversions.begin(key), key=key)
    assert isinstance(answer, Failed)
    assert "changed during the conversion" in answer.failure.message


def test_what_is_asked_in_the_wrong_order_or_of_the_wrong_thing_is_reported(trials: Trials, converted: Path) -> None:
    contract, work = converted / "contract", trials.conversions.begin("order")
    answer = trials.ask("openvino", contract, work)
    assert isinstance(answer, Failed)
    assert "Convert for tensorflow first" in answer.failure.message
    answer = trials.worker.ask(IdentifyModel(path=str(converted / "litert" / "model.tflite")))
    assert isinstance(answer, Failed)
    assert "SavedModels, Keras files and TensorFlow.js models are converted" in answer.failure.message
    trials.ask(TENSORFLOW, contract, work)
    answer = trials.ask("litrt", contract, work)
    assert isinstance(answer, Converted)
    assert "No converter for 'litrt' (did you mean 'litert'?)" in answer.trial.reason
