"""Every layer of Keras 2 is served with the numbers that Keras 2 computes."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest

from tests.made import made_by
from tfserve import runtimes
from tfserve.models import formats

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # TensorFlow's and Keras' own

MODELS = ("vector", "sequence", "image", "volume", "film", "numbers", "text")
LEFT_OUT = {
    "Layer", "Wrapper", "AbstractRNNCell",  # bases of others
    "Lambda",  # refused: it holds Python code
    "DenseFeatures",  # takes feature columns of Estimator
    "SpectralNormalization",  # tf_keras itself can't build it when Keras 3 is installed
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_by(Path(__file__).with_name("make_keras2_layers.py"), tmp_path_factory)


def test_no_layer_is_forgotten(folder: Path) -> None:
    import tf_keras

    layers = tf_keras.layers
    classes = {each for _, each in inspect.getmembers(layers, inspect.isclass) if issubclass(each, layers.Layer)}
    used = set((folder / "used.txt").read_text().split())
    assert {each.__name__ for each in classes} - used == LEFT_OUT


@pytest.mark.parametrize(
    ("name", "suffix"), [*((name, "h5") for name in MODELS), ("vector", "keras"), ("image", "keras")]
)
def test_each_layer_computes_what_keras_2_computes(folder: Path, name: str, suffix: str) -> None:
    model = runtimes.load(formats.locate(str(folder / f"{name}.{suffix}")), device="/cpu:0")
    kept = np.load(folder / f"{name}.npz", allow_pickle=True)
    expected = {key.removeprefix("out_"): kept[key] for key in kept.files if key.startswith("out_")}
    assert {each.name for each in model.signatures["serving_default"].outputs} == expected.keys()
    outputs = model.run({"x": kept["given"]}, list(expected), "serving_default")
    for (key, right), output in zip(expected.items(), outputs, strict=True):
        np.testing.assert_allclose(np.asarray(output), right, rtol=1e-4, atol=1e-5, err_msg=key)
    model.close()
