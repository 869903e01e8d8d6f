"""Segmentation in a real worker, and the model that comes out of it."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
from PIL import Image
from projects import mask_project, noise
from trainer import StartTrainer

from tfserve.ipc.messages import JobState, ModelLoaded


def test_masks_come_back_in_the_size_and_with_the_values_that_were_learnt(
    tmp_path: Path, start_trainer: StartTrainer
) -> None:
    project = mask_project(tmp_path / "project", count=40)
    trainer = start_trainer()
    ended = trainer.train(project, "segmentation", epochs=10, filters=8, batch_size=4, exports="saved_model")
    assert ended.state is JobState.SUCCEEDED, trainer.stdout() + trainer.stderr()
    folder = project / "models" / "t1"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["mean_iou"] > 0.7
    assert [each["label"] for each in metrics["per_class"]] == ["background", "value 255"]
    agreeing = [each["name"] for each in metrics["exports"] if each.get("agrees")]
    assert agreeing == ["SavedModel", "SavedModel from files", "Keras"]
    assert {each.name for each in (folder / "plots").iterdir()} == {"curves.png", "confusion_matrix.png", "masks.png"}

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
