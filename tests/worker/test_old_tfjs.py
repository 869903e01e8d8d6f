"""Models in the format of TensorFlow.js before 1.0: the error message has the command that converts them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfserve import runtimes
from tfserve.errors import Invalid
from tfserve.models import formats

pytestmark = pytest.mark.filterwarnings("ignore")  # TensorFlow's own


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The model `x @ w`: a binary graph whose constant is in another file."""
    weights = np.arange(6, dtype=np.float32).reshape(3, 2)
    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(tf.float32, [None, 3], name="x")
        tf.matmul(x, tf.constant(weights, name="w"), name="y")
    definition = graph.as_graph_def()
    for node in definition.node:
        if node.name == "w":
            node.attr["value"].tensor.ClearField("tensor_content")
    folder = tmp_path / "old model"
    folder.mkdir()
    (folder / "tensorflowjs_model.pb").write_bytes(definition.SerializeToString())
    (folder / "group1-shard1of1").write_bytes(weights.tobytes())
    manifest = [{"paths": ["group1-shard1of1"], "weights": [{"name": "w", "shape": [3, 2], "dtype": "float32"}]}]
    (folder / "weights_manifest.json").write_text(json.dumps(manifest))
    return folder


def test_the_command_of_the_error_message_converts_it(old: Path) -> None:
    messages = set()
    for path in (old, old / "tensorflowjs_model.pb", old / "weights_manifest.json"):
        with pytest.raises(Invalid, match=r"format of TensorFlow\.js before 1\.0") as caught:
            formats.locate(str(path))
        messages.add(caught.value.message)
    (message,) = messages
    python = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(message.split("model.json: ", 1)[1], shell=True, check=True, env=python, capture_output=True)

    model = runtimes.load(formats.locate(str(old)), device="/cpu:0", measuring=None)
    (y,) = model.run({"x": np.ones((2, 3), np.float32)}, ["y"], "serving_default")
    model.close()
    np.testing.assert_array_equal(np.asarray(y), [[6, 9], [6, 9]])
