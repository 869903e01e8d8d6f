"""Transfer learning, with a network whose weights are given as a file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from trainer import StartTrainer, error_of

from tfserve.ipc.messages import JobState

MAKE_WEIGHTS = """
import keras, sys
keras.utils.set_random_seed(1)
keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(96, 96, 3)).save_weights(sys.argv[1])
"""


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
    assert any("computes the features" in each.message or "MobileNetV2" in each.message for each in trainer.told)

    weights.write_bytes(weights.read_bytes()[:100])
    ended = trainer.wait(trainer.start_training(digits, task="t2", weights=str(weights)))
    assert "no weights for MobileNetV2" in error_of(ended)["message"]
