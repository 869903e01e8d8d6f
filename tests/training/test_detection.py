"""Detection in a real worker, and the model that comes out of it."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from trainer import StartTrainer

from tests.box_project import LEARNT_IN, SIDE, box_project
from tfserve.ipc.messages import JobState, ModelLoaded

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(1500)]


def test_boxes_are_learnt_exported_and_answered_in_pixels(tmp_path: Path, start_trainer: StartTrainer) -> None:
    project = box_project(tmp_path / "project")
    trainer = start_trainer()
    trainer._socket.settimeout(1400)
    ended = trainer.train(project, "detection", **LEARNT_IN)
    assert ended.state is JobState.SUCCEEDED, trainer.stdout() + trainer.stderr()
    folder = project / "models" / "t1"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["map50"] > 0.6
    agreeing = [each["name"] for each in metrics["exports"] if each.get("agrees")]
    assert agreeing == ["SavedModel", "SavedModel from files", "Keras", "LiteRT", "LiteRT int8", "ONNX"]
    assert (metrics["measured_on"], metrics["learnt_from"]) == ("held-out part", "all images")
    assert metrics["verdict"].startswith(("good", "fair"))
    assert {each.name for each in (folder / "plots").iterdir()} == {
        "curves.png", "precision_recall.png", "boxes.png", "worst_mistakes.png",
    }  # fmt: skip

    wide = tmp_path / "wide.png"
    Image.open(project / "images" / "03.png").resize((2 * SIDE, SIDE)).save(wide)
    files = [project / "images" / "03.png", wide]
    feed = {"image_bytes": [{"b64": base64.b64encode(file.read_bytes()).decode()} for file in files]}
    truth = [each["bbox"] for each in json.loads((project / "annotations.json").read_text())["annotations"][6:8]]
    for form in ("saved_model", "model.keras", "model.tflite", "model_int8.tflite", "model.onnx"):
        server = start_trainer()
        server._socket.settimeout(300)
        loaded = server.load(str(folder / form))
        assert isinstance(loaded, ModelLoaded), (form, loaded)
        names = ["boxes", "labels", "count"]
        (answer,) = server.predict({"fetches": names, "feed_dict": feed, "signature": "image_bytes"})
        boxes, labels, count = (np.array(each) for each in answer)
        assert (count >= 1).all(), form
        for row, across in ((0, 1), (1, 2)):
            found = list(zip(boxes[row][: count[row]], labels[row], strict=False))
            for label, (left, top, width, height) in zip(("bright", "dark"), truth, strict=True):
                best = next(box for box, name in found if name == label)  # in the order of their scores
                expected = np.array([left * across, top, (left + width) * across, top + height])
                assert overlap(best, expected) > 0.5, (form, label, best, expected)


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two boxes (left, top, right, bottom)."""
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    shared = float(np.prod(np.maximum(sides, 0)))
    areas = [float(np.prod(box[2:] - box[:2])) for box in (one, other)]
    return shared / (sum(areas) - shared)
