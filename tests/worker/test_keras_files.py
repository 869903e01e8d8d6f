"""Files of Keras 2 and 3: they compute what their own Keras computes, under the model's own names."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tfserve import runtimes
from tfserve.errors import Invalid
from tfserve.models import formats
from tfserve.runtimes.interface import Runtime
from tfserve.tensors.specs import Array

pytestmark = pytest.mark.filterwarnings("ignore")  # TensorFlow's and Keras' own


def load(path: Path) -> Runtime:
    return runtimes.load(formats.locate(str(path)), device="/cpu:0")


def computed(path: Path, **inputs: Array) -> dict[str, Array]:
    """The outputs of the default signature by name."""
    model = load(path)
    names = [spec.name for spec in model.signatures["serving_default"].outputs]
    assert [spec.name for spec in model.signatures["serving_default"].inputs] == sorted(inputs)
    outputs = dict(zip(names, model.run(inputs, names, "serving_default"), strict=True))
    model.close()
    return {name: output for name, output in outputs.items() if output is not None}


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["h5", "keras"])
@pytest.mark.parametrize(
    ("name", "takes", "outputs"),
    [
        ("two_heads", "picture", ["price", "risk"]),
        ("series", "steps", ["last/state", "mean"]),
        ("fixed", "steps", ["rnn"]),
    ],
)
def test_a_file_of_keras_2_computes_what_keras_2_does(
    models: Path, name: str, takes: str, outputs: list[str], suffix: str
) -> None:
    kept = np.load(models / f"{name}.npz")
    found = computed(models / f"{name}.{suffix}", **{takes: kept["inputs"]})
    assert list(found) == outputs
    for n, output in enumerate(outputs):
        np.testing.assert_allclose(found[output], kept[str(n)], rtol=1e-5, atol=1e-6)


def test_outputs_and_inputs_keep_their_names(models: Path) -> None:
    two, one = np.float32([[1, 2], [3, 4]]), np.float32([[-1], [5]])
    found = computed(models / "named.keras", first_input=two, second=one)
    assert {name: output.tolist() for name, output in found.items()} == {
        "risk": [[0], [5]],
        "sum": [[3], [7]],
        "sum_1": [[-2], [10]],
    }
    found = computed(models / "dictionary.keras", second=one)
    assert {name: output.tolist() for name, output in found.items()} == {
        "more/risk": [[-2], [10]],
        "price": [[0], [5]],
    }


def test_a_fixed_batch_is_kept(models: Path) -> None:
    model = load(models / "fixed_batch.h5")
    assert [spec.shape for spec in model.signatures["serving_default"].inputs] == [(4, 3)]
    assert [spec.shape for spec in model.signatures["serving_default"].outputs] == [(4, 1)]
    (output,) = model.run({"x": np.ones((4, 3), np.float32)}, ["y"], "serving_default")
    assert np.asarray(output).tolist() == [[3], [3], [3], [3]]
    model.close()


def test_a_ragged_input_is_given_by_its_parts(models: Path) -> None:
    model = load(models / "ragged.h5")
    values, splits = np.int64([1, 2, 3]), np.int64([0, 2, 3])
    (output,) = model.run({"ids": values, "ids_1": splits}, ["mean"], "serving_default")
    (single,) = model.run({"ids": values[2:], "ids_1": np.int64([0, 1])}, ["mean"], "serving_default")
    np.testing.assert_allclose(np.asarray(output)[1:], np.asarray(single), rtol=1e-6)
    assert model.signatures["serving_default"].inputs[1].part == "row_splits of 'ids'"
    model.close()


@pytest.mark.parametrize("name", ["two_heads.weights.h5", "plain.weights.h5"])
def test_weights_without_a_model_are_called_that(models: Path, tmp_path: Path, name: str) -> None:
    shutil.copy(models / name, tmp_path / "model.h5")
    for path in (models / name, tmp_path / "model.h5"):
        with pytest.raises(Invalid, match="contains weights but no model") as caught:
            load(path)
        assert f"model.load_weights('{path.name}')" in caught.value.message


def test_a_suffix_may_be_in_capitals(models: Path, tmp_path: Path) -> None:
    for suffix in ("keras", "h5"):
        shutil.copy(models / f"dense.{suffix}", tmp_path / f"DENSE.{suffix.upper()}")
        assert computed(tmp_path / f"DENSE.{suffix.upper()}", x=np.float32([[1, 2]]))["dense"].tolist() == [[3]]


@pytest.mark.parametrize("suffix", ["h5", "keras"])
def test_a_model_compiled_with_a_lambda_as_loss_is_loaded(models: Path, suffix: str) -> None:
    assert computed(models / f"compiled.{suffix}", x=np.float32([[1, 2]]))["dense"].tolist() == [[3]]


@pytest.mark.parametrize("suffix", ["h5", "keras"])
def test_a_lambda_as_activation_is_named_with_its_layer(models: Path, suffix: str) -> None:
    with pytest.raises(Invalid, match="its layer 'scores' has a Python lambda as activation"):
        load(models / f"activated.{suffix}")
