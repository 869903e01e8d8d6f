"""Segmentation in a real worker, and the model that comes out of it."""

from __future__ import annotations

import json
from pathlib import Path

from projects import mask_project
from trainer import StartTrainer

from tfserve.ipc.messages import JobState, ModelLoaded


def test_masks_come_back_in_the_size_and_with_the_values_that_were_learnt(
    tmp_path: Path, start_trainer: StartTrainer
) -> None:
    project = mask_project(tmp_path / "project", count=40, size=(40, 52))
    trainer = start_trainer()
    ended = trainer.train(project, "segmentation", epochs=12, filters=8, batch_size=4, exports="saved_model")
    assert ended.state is JobState.SUCCEEDED, trainer.stdout() + trainer.stderr()
    folder = project / "models" / "t1"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["mean_iou"] > 0.8
    assert [each["label"] for each in metrics["per_class"]] == ["background", "value 255"]
    assert [each["name"] for each in metrics["exports"] if each["agrees"]] == [
        "SavedModel",
        "SavedModel from files",
        "Keras",
    ]
    assert {each.name for each in (folder / "plots").iterdir()} == {"curves.png", "confusion_matrix.png", "masks.png"}

    assert isinstance(loaded := trainer_as_server(start_trainer, str(ended.model_path))[0], ModelLoaded)
    assert set(loaded.signatures) == {"serving_default", "image_bytes"}


def trainer_as_server(start_trainer: StartTrainer, path: str) -> tuple[object, object]:
    worker = start_trainer()
    return worker.load(path), worker
