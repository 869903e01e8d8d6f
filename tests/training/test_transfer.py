"""Transfer learning, with a network whose weights are given as a file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from trainer import StartTrainer, error_of

from tfserve.ipc.messages import JobState
from tfserve.tensors.specs import Array

MAKE_WEIGHTS = """
import keras, sys
keras.utils.set_random_seed(1)
keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(96, 96, 3)).save_weights(sys.argv[1])
"""


@pytest.mark.long
@pytest.mark.slow
def test_features_are_computed_once_and_the_model_takes_images(
    digits: Path, tmp_path: Path, start_trainer: StartTrainer
) -> None:
    weights = tmp_path / "mobilenet.weights.h5"
    subprocess.run([sys.executable, "-c", MAKE_WEIGHTS, weights], check=True, capture_output=True)
    trainer = start_trainer()
    ended = trainer.train(digits, weights=str(weights), epochs=3, exports="saved_model")
    assert ended.state is JobState.SUCCEEDED, trainer.stderr()
    metrics = json.loads((digits / "models" / "t1" / "metrics.json").read_text())
    assert metrics["network"]["backbone"] == "MobileNetV2"
    assert metrics["network"]["size"] == [160, 160], "small images are enlarged"
    assert [each["name"] for each in metrics["exports"] if each.get("agrees")][:1] == ["SavedModel"]
    assert any("Computing the features" in each.message or "MobileNetV2" in each.message for each in trainer.told)

    weights.write_bytes(weights.read_bytes()[:100])
    ended = trainer.wait(trainer.start_training(digits, task="t2", weights=str(weights)))
    assert "Is it truncated?" in error_of(ended)["message"]


@pytest.mark.slow
@pytest.mark.long
def test_the_last_blocks_of_the_network_are_tuned_where_the_time_allows(
    tmp_path: Path, start_trainer: StartTrainer
) -> None:
    """Stripes and spots, rotated at random: a photograph network knows both, and the tuned one is at least as sure."""
    project = tmp_path / "project"
    for number in range(60):
        for name, picture in (("stripes", _stripes(number)), ("spots", _spots(number))):
            (project / "images" / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(project / "images" / name / f"{number}.png")
    trainer = start_trainer()
    ended = trainer.train(
        project, backbone="efficientnet-lite0", effort="best", exports="saved_model", validation_split=0.5
    )
    assert ended.state is JobState.SUCCEEDED, trainer.stderr()
    metrics = json.loads((project / "models" / "t1" / "metrics.json").read_text())
    rows = {each["name"]: each for each in metrics["candidates"]}
    tuned = rows["fine-tuned efficientnet-lite0"]
    assert tuned["skipped"] or tuned["score"] > 0.9
    assert metrics["balanced_accuracy"] > 0.9
    assert all(each["agrees"] for each in metrics["exports"])
    assert "`web/`" not in (project / "models" / "t1" / "README.md").read_text(), "it needs the ONNX form"
    assert any("Computing the first blocks" in each.message for each in trainer.told) == (tuned["skipped"] is None)


def _stripes(seed: int) -> Array:
    random = np.random.default_rng(seed)
    angle, width = random.uniform(0, np.pi), random.uniform(6, 12)
    rows, columns = np.mgrid[0:96, 0:96]
    wave = np.sin((rows * np.cos(angle) + columns * np.sin(angle)) * 2 * np.pi / width)
    return _noisy(wave, random)


def _spots(seed: int) -> Array:
    random = np.random.default_rng(seed)
    width = random.uniform(8, 16)
    rows, columns = np.mgrid[0:96, 0:96]
    wave = np.sin(rows * 2 * np.pi / width) * np.sin(columns * 2 * np.pi / width) * 1.5
    return _noisy(wave, random)


def _noisy(wave: Array, random: np.random.Generator) -> Array:
    levels = 128 + 60 * wave + random.normal(0, 70, wave.shape)
    return np.repeat(np.clip(levels, 0, 255).astype(np.uint8)[..., np.newaxis], 3, axis=2)
