"""Trainings of projects in other layouts than the contract's, to the end: names, ignored pixels, unpacked files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layout_projects import palette_mask
from PIL import Image
from projects import digit_project, mask_project
from trainer import StartTrainer

from tfserve.ipc.messages import JobState
from tfserve.runtimes import image_metadata

QUICK: dict[str, Any] = {"epochs": 2, "exports": "saved_model", "batch_size": 8}


def result(ended: Any, trainer: Any) -> Path:
    assert ended.state is JobState.SUCCEEDED, trainer.stdout() + trainer.stderr()
    return Path(ended.model_path).parent


@pytest.mark.long
@pytest.mark.slow
def test_a_zip_file_is_trained_and_its_names_are_in_every_file(tmp_path: Path, start_trainer: StartTrainer) -> None:
    folder = digit_project(tmp_path / "set", classes=3, per_class=12)
    for old, new in {"Digit_0": "零", "Digit_1": "C++", "Digit_2": "C#"}.items():
        (folder / "images" / old).rename(folder / "images" / new)
    project = tmp_path / "project"
    project.mkdir()
    shutil.make_archive(str(project / "set"), "zip", folder)
    trainer = start_trainer()
    made = result(trainer.train(project, **QUICK, backbone="compact"), trainer)

    metrics = json.loads((made / "metrics.json").read_text())
    assert (metrics["labels"], metrics["display"]) == (["c ", "c 2", "class 1"], ["C#", "C++", "零"])
    assert metrics["layout"] == "images/<class>/<image>, unpacked from a zip file"
    confused = metrics["verdict_details"]["confused"]
    assert {name for pair in confused for name in pair[:2]} <= {*metrics["display"]}
    assert "class 1" not in metrics["verdict"]
    assert (made / "labels.txt").read_text() == "c \nc 2\nclass 1\n"
    assert (made / "display_names.txt").read_text(encoding="utf-8") == "C#\nC++\n零\n"
    readme = (made / "README.md").read_text(encoding="utf-8")
    assert "class 1 (零)" in readme
    assert "unpacked from a zip file" in readme
    predictions = (made / "predictions.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert all(line.startswith("set/images/") for line in predictions)
    image = json.loads((made / "saved_model" / image_metadata.SIDECAR).read_text())
    assert image["display"] == ["C#", "C++", "零"]
    assert not (tmp_path / "derived").exists(), "what was unpacked goes when the training is over"


@pytest.mark.slow
@pytest.mark.long
def test_pixels_of_no_class_are_neither_learnt_nor_measured(tmp_path: Path, start_trainer: StartTrainer) -> None:
    project = mask_project(tmp_path / "project", count=16)
    for path in (project / "labels").iterdir():
        values = np.where(np.asarray(Image.open(path)) > 0, 7, 0)
        values[:6] = 255
        palette_mask(path, values)
    trainer = start_trainer()
    made = result(trainer.train(project, "segmentation", filters=8, backbone="unet", effort="fast", **QUICK), trainer)
    metrics = json.loads((made / "metrics.json").read_text())
    assert (metrics["numbers"], metrics["ignore"]) == ([0, 7], 255)
    held_out = metrics["images"]["held_out"]
    assert sum(map(sum, metrics["confusion_matrix"])) == held_out * (32 - 6) * 40
    assert np.isfinite(metrics["epochs"]["history"]["val_loss"]).all()
