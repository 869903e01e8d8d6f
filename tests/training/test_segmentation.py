"""Segmentation in a real worker, and the model that comes out of it."""

from __future__ import annotations

import base64
import json
import re
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from projects import mask_project, noise, photograph_project
from trainer import StartTrainer

from tfserve.ipc.messages import JobState, ModelLoaded, ProjectExamined, TrainingEnded


@pytest.mark.long
@pytest.mark.slow
def test_masks_return_in_the_size_and_with_the_values_that_were_learnt(
    tmp_path: Path, start_trainer: StartTrainer
) -> None:
    project = mask_project(tmp_path / "project", count=40)
    trainer = start_trainer()
    ended = trainer.train(
        project, "segmentation", epochs=10, filters=8, batch_size=4, exports="saved_model", backbone="unet",
        effort="fast",
    )  # fmt: skip
    assert ended.state is JobState.SUCCEEDED, trainer.stdout() + trainer.stderr()
    folder = project / "models" / "t1"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["mean_iou"] > 0.7
    assert [each["label"] for each in metrics["per_class"]] == ["background", "value 255"]
    agreeing = [each["name"] for each in metrics["exports"] if each.get("agrees")]
    assert agreeing == ["SavedModel", "SavedModel from files", "Keras"]
    assert {each.name for each in (folder / "plots").iterdir()} == {
        "candidates.png", "curves.png", "confusion_matrix.png", "masks.png"
    }  # fmt: skip
    assert metrics["network"]["backbone"] == "unet"
    assert metrics["images"]["training"] == 40, "the delivered model learns from all images"

    server = start_trainer()
    loaded = server.load(str(ended.model_path))
    assert isinstance(loaded, ModelLoaded)
    noise(9, (50, 30)).save(project / "tall.jpg")
    files = [project / "images" / "003.png", project / "tall.jpg"]
    feed = {"image_bytes": [{"b64": base64.b64encode(file.read_bytes()).decode()} for file in files]}
    (answer,) = server.predict({"fetches": ["mask", "size"], "feed_dict": feed, "signature": "image_bytes"})
    mask, size = (np.array(each) for each in answer)
    assert size.tolist() == [[32, 40], [50, 30]]
    assert mask.shape == (2, 50, 40)
    assert set(np.unique(mask)) <= {0, 255}
    assert not mask[0, 32:].any()
    truth = np.asarray(Image.open(project / "labels" / "003.png"))
    assert (mask[0, :32] == truth).mean() > 0.9

    floats = np.asarray(Image.open(files[0])).astype(float)[np.newaxis].tolist()
    (answer,) = server.predict({"fetches": "mask", "feed_dict": {"images": floats}})
    assert np.array(answer[0]).tolist() == mask[:1, :32].tolist()

    asked = {"fetches": "probabilities", "feed_dict": {"images": floats}, "signature": "probabilities"}
    (answer,) = server.predict(asked)
    probabilities = np.array(answer[0])
    assert probabilities.shape == (1, 32, 40, 2)
    assert np.allclose(probabilities.sum(axis=-1), 1, atol=1e-4)
    assert (probabilities.argmax(axis=-1) * 255 == mask[:1, :32]).all()


@pytest.mark.slow
def test_candidates_compete_and_the_table_and_the_verdict_are_everywhere(
    tmp_path: Path, start_trainer: StartTrainer
) -> None:
    project = photograph_project(tmp_path / "project")
    trainer = start_trainer()
    ended = trainer.train(project, "segmentation", effort="fast", exports="all", image_size=96)
    assert ended.state is JobState.SUCCEEDED, trainer.stdout() + trainer.stderr()
    metrics = json.loads((project / "models" / "t1" / "metrics.json").read_text())
    names = [each["name"] for each in metrics["candidates"]]
    assert names[:2] == ["linear head on efficientnet-lite0", "decoder on efficientnet-lite0"]
    assert "U-Net from scratch" in names
    assert sum(each["chosen"] for each in metrics["candidates"]) == 1
    assert metrics["measured_on"] in ("folds", "held-out part")
    assert metrics["mean_iou"] > 0.5
    assert metrics["verdict"].split()[0] in ("good", "fair")
    assert metrics["verdict_details"]["by_chance"] <= 0.05
    readme = (project / "models" / "t1" / "README.md").read_text()
    assert metrics["verdict"] in readme
    assert "| candidate | mean IoU |" in readme
    assert "resize bilinearly" in readme
    assert ended.metrics is not None
    assert ended.metrics["candidates"] == metrics["candidates"]
    assert {each["name"]: each.get("agrees") for each in metrics["exports"]} == dict.fromkeys(
        ("SavedModel", "SavedModel from files", "Keras", "LiteRT", "LiteRT int8", "ONNX"), True
    )


@pytest.mark.slow
@pytest.mark.long
def test_a_decoder_continues_from_its_checkpoint_and_the_folds_are_not_measured_again(
    tmp_path: Path, start_trainer: StartTrainer
) -> None:
    project = photograph_project(tmp_path / "project", count=12)
    chosen: dict[str, Any] = {
        "exports": "saved_model", "image_size": 64, "epochs": 8, "backbone": "efficientnet-lite0", "effort": "best",
        "validation_split": 0.5,
    }  # fmt: skip
    first = start_trainer()
    assert isinstance(first.examine(project, "segmentation", **chosen), ProjectExamined)
    first.start_training(project, "segmentation", **chosen)
    first.wait_until_told(lambda told: "fold 1: epoch 5 of 8" in told.message)
    first.process.send_signal(signal.SIGKILL)
    first.process.wait()

    second = start_trainer()
    ended = second.wait(second.start_training(project, "segmentation", **chosen), TrainingEnded)
    assert ended.state is JobState.SUCCEEDED, second.stdout() + second.stderr()
    assert any(re.search("decoder.*fold 1: Continues after epoch [45] of 8", told.message) for told in second.told)
    metrics = json.loads((project / "models" / "t1" / "metrics.json").read_text())
    assert metrics["images"]["training"] == 12
    assert metrics["candidates"][0]["seconds"] < 5, "kept from the first attempt"
