"""Classification in a real worker: what a run leaves behind, and that it works."""

from __future__ import annotations

import base64
import csv
import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flatbuffers import number_types
from flatbuffers.table import Table
from image_models import as_array, loaded, located
from projects import broken_images, digit_project
from trainer import Trainer
from worker_process import WorkerProcess

from tfserve.ipc.messages import (
    Convert,
    Converted,
    Done,
    IdentifyModel,
    JobState,
    ModelLoaded,
    TrainingEnded,
)
from tfserve.runtimes import image_metadata, images

EPOCHS = 12
FORMS = ("model.keras", "model.tflite", "model_int8.tflite", "model.onnx")


class FlatTable:
    """A table of a flatbuffer, read by the numbers of its fields."""

    def __init__(self, data: bytes, place: int) -> None:
        self._table = Table(data, place)

    @classmethod
    def root(cls, data: bytes, identifier: bytes) -> FlatTable:
        assert data[4:8] == identifier
        return cls(data, int.from_bytes(data[:4], "little"))

    def text(self, field: int) -> str:
        return bytes(self._table.String(self._place(field))).decode()

    def number(self, field: int) -> int:
        return int(self._table.Get(number_types.Uint32Flags, self._place(field)))

    def byte(self, field: int) -> int:
        return int(self._table.Get(number_types.Uint8Flags, self._place(field)))

    def table(self, field: int) -> FlatTable:
        return FlatTable(self._table.Bytes, self._table.Indirect(self._place(field)))

    def tables(self, field: int) -> list[FlatTable]:
        offset = self._place(field) - self._table.Pos
        begin = self._table.Vector(offset)
        places = (begin + 4 * each for each in range(self._table.VectorLen(offset)))
        return [FlatTable(self._table.Bytes, self._table.Indirect(place)) for place in places]

    def _place(self, field: int) -> int:
        offset = self._table.Offset(4 + 2 * field)
        assert offset, f"field {field} is not there"
        return int(self._table.Pos + offset)


class Trained:
    """A run that has come to its end."""

    def __init__(self, folder: Path) -> None:
        self.project = digit_project(folder / "project", classes=3, per_class=40)
        broken_images(self.project / "images" / "Digit_1")
        digit_project(folder / "more", classes=2, per_class=3)
        shutil.move(folder / "more" / "images", self.project / "unlabelled")
        (self.project / "unlabelled" / "broken.png").write_bytes(b"no image")
        own = folder / "own"
        own.mkdir()
        self.trainer = Trainer(own)
        self.ended = self.trainer.train(
            self.project, epochs=EPOCHS, seed=3, backbone="compact", effort="fast", explain=True
        )
        self.folder = self.project / "models" / "t1"

    @property
    def metrics(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads((self.folder / "metrics.json").read_text())
        return told


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    run = Trained(tmp_path_factory.mktemp("classification"))
    yield run
    run.trainer.end()


@pytest.fixture(scope="module")
def deployed(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    worker = WorkerProcess(tmp_path_factory.mktemp("deployed"))
    answer = worker.load(str(trained.ended.model_path))
    assert isinstance(answer, ModelLoaded), answer
    yield worker
    worker.end()


def test_a_run_ends_with_the_path_of_the_model_and_a_summary(trained: Trained) -> None:
    ended = trained.ended
    assert isinstance(ended, TrainingEnded)
    assert (ended.state, ended.error) == (JobState.SUCCEEDED, None)
    assert ended.model_path == str(trained.folder / "saved_model")
    assert ended.metrics is not None
    assert ended.metrics["accuracy"] > 0.9


def test_everything_is_in_the_folder_and_latest_leads_there(trained: Trained) -> None:
    there = {str(each.relative_to(trained.folder)) for each in trained.folder.rglob("*")}
    assert there >= {
        "saved_model/saved_model.pb", "model.keras", "model.tflite", "model_int8.tflite", "labels.txt",
        "metrics.json", "README.md", "web/index.html", "web/model.onnx", "web/model.json",
        "plots/curves.png", "plots/confusion_matrix.png", "plots/worst_mistakes.png",
    }  # fmt: skip
    models = trained.project / "models"
    assert (models / "latest").resolve() == trained.folder.resolve()
    assert sorted(each.name for each in models.iterdir()) == ["latest", "t1"]
    assert not (trained.project.parent / "work").exists()
    assert (trained.folder / "labels.txt").read_text() == "digit 0\ndigit 1\ndigit 2\n"


def test_each_held_out_image_is_in_a_table_and_each_class_has_a_threshold(trained: Trained) -> None:
    rows = table(trained.folder / "predictions.csv")
    assert {row["true"] for row in rows} == {"Digit_0", "Digit_1", "Digit_2"}
    assert all((trained.project / row["file"]).is_file() for row in rows)
    right = sum(row["true"] == row["predicted"] for row in rows) / len(rows)
    assert right == pytest.approx(trained.metrics["accuracy"])
    assert [each["label"] for each in trained.metrics["thresholds"]] == trained.metrics["labels"]
    assert all(0 <= each["threshold"] <= 1 for each in trained.metrics["thresholds"])


def test_images_without_labels_are_listed_with_the_least_certain_first(trained: Trained) -> None:
    rows = table(trained.folder / "label_next.csv")
    assert len(rows) == 6
    margins = [float(row["margin"]) for row in rows]
    assert margins == sorted(margins)
    assert "broken.png has no label and can't be read" in (trained.folder / "README.md").read_text()
    for name in ("label_next.png", "what_it_looks_at.png"):
        assert (trained.folder / "plots" / name).read_bytes().startswith(b"\x89PNG")


def table(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened))


def test_progress_grows_to_99_and_tells_each_epoch(trained: Trained) -> None:
    told = [each.progress for each in trained.trainer.told]
    assert told == sorted(told)
    assert told[-1] == 99.0
    epochs = list(range(1, EPOCHS + 1))
    assert trained.trainer.epochs_told() == [*epochs, *epochs], "on a fold, then on all images"
    told_metrics = [each.metrics for each in trained.trainer.told if each.metrics is not None]
    assert len(told_metrics[EPOCHS - 1]["history"]["val_loss"]) == EPOCHS
    assert "val_loss" not in told_metrics[-1]["history"], "no image is put aside from the delivered model"
    assert any("compact" in each.message for each in trained.trainer.told)
    assert f"epoch {EPOCHS} of {EPOCHS}: " in trained.trainer.stdout()


def test_the_figures_say_what_they_were_measured_on_and_what_they_mean(trained: Trained) -> None:
    metrics = trained.metrics
    assert metrics["measured_on"] == "held-out part"
    assert metrics["images"] == {"training": 120, "held_out": 24, "skipped": 5}
    assert metrics["verdict"].startswith("good")
    assert metrics["verdict_details"]["majority"] == pytest.approx(1 / 3)
    (candidate,) = metrics["candidates"]
    assert (candidate["name"], candidate["chosen"], candidate["folds"]) == ("compact network from scratch", True, 1)
    assert candidate["score"] == pytest.approx(metrics["balanced_accuracy"])
    assert trained.ended.metrics is not None
    assert trained.ended.metrics["verdict"] == metrics["verdict"]
    readme = (trained.folder / "README.md").read_text()
    assert "**Verdict: good" in readme
    assert "| **compact network from scratch** |" in readme


def test_metrics_tell_of_each_class_of_calibration_and_of_what_was_skipped(trained: Trained) -> None:
    metrics = trained.metrics
    assert [each["label"] for each in metrics["per_class"]] == ["digit 0", "digit 1", "digit 2"]
    assert sum(map(sum, metrics["confusion_matrix"])) == metrics["images"]["held_out"] == 24
    assert sum(each["images"] for each in metrics["calibration"]["bins"]) == 24
    assert len(metrics["skipped"]) == 5
    assert metrics["parameters"]["seed"] == 3
    assert metrics["network"]["backbone"] == "compact"


def test_every_export_gives_the_same_answers_as_the_original(trained: Trained) -> None:
    exports = {each["name"]: each for each in trained.metrics["exports"]}
    assert {name: each.get("problem") for name, each in exports.items() if not each.get("agrees")} in (
        {}, {"ONNX": "RuntimeError: tf2onnx is not installed: pip install tf2onnx onnxruntime"}
    )  # fmt: skip
    assert exports["LiteRT int8"]["size_bytes"] < exports["LiteRT"]["size_bytes"]
    assert all(each["latency_ms"] > 0 for each in exports.values() if "problem" not in each)


def test_litert_files_carry_their_labels(trained: Trained) -> None:
    for name in ("model.tflite", "model_int8.tflite"):
        with zipfile.ZipFile(trained.folder / name) as archive:
            assert archive.read("labels.txt").decode().splitlines() == ["digit 0", "digit 1", "digit 2"]
            assert json.loads(archive.read("metadata.json"))["size"] == [16, 16]


def test_litert_files_tell_of_themselves_in_the_schema_of_its_tools(trained: Trained) -> None:
    from tensorflow.lite.tools import flatbuffer_utils

    for name in ("model.tflite", "model_int8.tflite"):
        model = flatbuffer_utils.read_model(str(trained.folder / name))
        (entry,) = [each for each in model.metadata if each.name == b"TFLITE_METADATA"]
        told = FlatTable.root(bytes(model.buffers[entry.buffer].data), b"M001")
        (graph,) = told.tables(3)
        assert told.text(0) == "classification"
        (image,), (output,) = graph.tables(2), graph.tables(3)
        assert (len(model.subgraphs[0].inputs), len(model.subgraphs[0].outputs)) == (1, 1)
        size = image.table(3).table(1).table(1)
        assert (size.number(0), size.number(1)) == (16, 16)
        (labels,) = output.tables(6)
        assert labels.text(0) == "labels.txt"
        assert labels.byte(2) == 2, "they are the labels of the last axis"


def test_the_readme_is_one_page_about_the_run(trained: Trained) -> None:
    text = (trained.folder / "README.md").read_text()
    assert "task t1" in text
    assert "| digit 2 |" in text
    assert len(text) < 5000


def test_tensorboard_finds_the_history(trained: Trained) -> None:
    (file,) = (trained.folder / "logs").iterdir()
    assert file.name.startswith("events.out.tfevents.")
    content = file.read_bytes()
    assert content.count(b"val_loss") == EPOCHS
    assert b"brain.Event:2" in content


def test_the_signature_for_files_tells_labels_of_images_never_seen(trained: Trained, deployed: WorkerProcess) -> None:
    images = [
        path for label in range(3) for path in sorted((trained.project / "images" / f"Digit_{label}").glob("0*.png"))
    ]
    encoded = [{"b64": base64.b64encode(path.read_bytes()).decode()} for path in images]
    feed = {"image_bytes": encoded}
    (result,) = deployed.predict({"fetches": ["label", "probabilities"], "feed_dict": feed, "signature": "image_bytes"})
    labels, probabilities = result
    right = sum(label == path.parent.name.lower().replace("_", " ") for label, path in zip(labels, images, strict=True))
    assert right > 0.9 * len(images)
    assert all(sum(row) == pytest.approx(1, abs=1e-4) for row in probabilities)


def test_every_export_takes_files_as_it_is_and_tells_the_same(trained: Trained, deployed: WorkerProcess) -> None:
    files = [next((trained.project / "images" / f"Digit_{label}").glob("*.png")) for label in range(3)]
    contents = [file.read_bytes() for file in files]
    encoded = [{"b64": base64.b64encode(content).decode()} for content in contents]
    asked = {"fetches": ["label", "probabilities"], "feed_dict": {"image_bytes": encoded}, "signature": "image_bytes"}
    ((labels, expected),) = deployed.predict(asked)
    # The file beside a model says what its own metadata says: without the file everything stays as it is.
    described = {name: image_metadata.find(located(trained.folder / name), None) for name in FORMS}
    for name in ("model.tflite", "model_int8.tflite", "model.onnx"):
        alone = shutil.copy(trained.folder / name, trained.project.parent / name)
        assert image_metadata.find(located(Path(alone)), None) == described[name]
    for name in FORMS[1:]:
        runtime = images.with_files(loaded(trained.folder / name), described[name])
        found, probabilities = runtime.run(
            {"image_bytes": as_array(*contents)}, ["label", "probabilities"], "image_bytes"
        )
        assert found is not None
        assert probabilities is not None
        assert [label.decode() for label in found] == labels
        assert probabilities == pytest.approx(np.array(expected), abs=0.05 if "int8" in name else 1e-4)
    of_keras = described["model.keras"]
    assert of_keras is not None
    spec = of_keras.spec
    assert (spec.height, spec.width, spec.scale, spec.task) == (16, 16, 1.0, "classification")
    assert spec.labels == ["digit 0", "digit 1", "digit 2"]


@pytest.mark.slow
def test_other_runtimes_are_compared_by_the_held_out_images(trained: Trained, tmp_path: Path) -> None:
    model = trained.folder / "saved_model"
    with zipfile.ZipFile(model / image_metadata.HELD_OUT) as archive:
        assert len(archive.namelist()) == 12
    worker = WorkerProcess(tmp_path, "--warm")
    key = worker.ask(IdentifyModel(path=str(model), precision="float32"), Done).value
    (work := tmp_path / "work").mkdir()
    for candidate in ("tensorflow", "litert"):
        convert = Convert(
            candidate=candidate, path=str(model), key=str(key), work_folder=str(work), precision="float32"
        )
        trial = worker.ask(convert, Converted).trial
        assert (trial.ok, trial.reason) == (True, ""), trial
        assert trial.compared >= 12
        assert trial.best_s.keys() == {"1", "8"}
    worker.end()


def test_an_empty_batch_of_files_is_told_what_was_expected(deployed: WorkerProcess) -> None:
    (told,) = deployed.predict({"fetches": "label", "feed_dict": {"image_bytes": []}, "signature": "image_bytes"})
    assert "one encoded image or more was expected" in told["message"]


def test_the_signature_for_floats_takes_images_of_any_size(deployed: WorkerProcess) -> None:
    images = [[[[float(10 * row)] * 3] * 20 for row in range(24)]] * 2
    (result,) = deployed.predict({"fetches": "probabilities", "feed_dict": {"images": images}})
    assert [len(row) for row in result[0]] == [3, 3]
