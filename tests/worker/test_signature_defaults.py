"""Inputs of SavedModels that have a default value are optional."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.made import made_by
from tfserve import runtimes
from tfserve.errors import Invalid, Unsupported
from tfserve.models import formats
from tfserve.runtimes import conversion
from tfserve.runtimes.interface import Runtime
from tfserve.tensors.specs import DEFAULT_SIGNATURE, Array

X = np.float32([[1, 2], [3, 4]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_by(Path(__file__).with_name("make_signature_defaults.py"), tmp_path_factory)


@pytest.fixture
def model(folder: Path, request: pytest.FixtureRequest) -> Iterator[Runtime]:
    loaded = runtimes.load(formats.locate(str(folder / request.param)), device="/cpu:0")
    yield loaded
    loaded.close()


def computed(model: Runtime, **inputs: Array) -> Array | None:
    (y,) = model.run(inputs, ["y"], DEFAULT_SIGNATURE)
    return y


@pytest.mark.parametrize("model", ["scaled"], indirect=True)
def test_an_input_with_a_default_is_optional(model: Runtime) -> None:
    signature = model.signatures[DEFAULT_SIGNATURE]
    assert signature.input_names == ("x",)
    assert {spec.name: spec.default for spec in signature.optional} == {
        "factor": 2.0, "offset": [0.5, 0.25], "label": "é"
    }  # fmt: skip


@pytest.mark.parametrize("model", ["scaled"], indirect=True)
def test_the_default_is_used_where_no_value_is_given(model: Runtime) -> None:
    np.testing.assert_array_equal(computed(model, x=X), X * 2 + [0.5, 0.25])
    np.testing.assert_array_equal(computed(model, x=X, factor=np.float32(3)), X * 3 + [0.5, 0.25])
    np.testing.assert_array_equal(computed(model, x=X, offset=np.float32([1, 1]), factor=np.float32(0)), X * 0 + 1)
    (label,) = model.run({"x": X}, ["label"], DEFAULT_SIGNATURE)
    assert label is not None
    assert label.tolist() == ["é".encode()] * 2


@pytest.mark.parametrize("model", ["complete"], indirect=True)
def test_all_inputs_may_have_a_default(model: Runtime) -> None:
    np.testing.assert_array_equal(computed(model), [[1, 2]])
    np.testing.assert_array_equal(computed(model, negate=np.array(True)), [[-1, -2]])
    np.testing.assert_array_equal(computed(model, x=X), X)


@pytest.mark.parametrize("model", ["scaled"], indirect=True)
def test_such_a_model_stays_on_tensorflow(model: Runtime, folder: Path) -> None:
    with pytest.raises(Unsupported, match="'factor' has a default value, which only TensorFlow supports"):
        conversion.signature_of(model.signatures)
    with pytest.raises(Unsupported, match=r"'weight'.* has a default value, which only TensorFlow supports"):
        runtimes.load(formats.locate(str(folder / "weighted")), device="/cpu:0", runtime="openvino")


def test_a_default_that_contradicts_its_input_is_reported(folder: Path) -> None:
    with pytest.raises(
        Invalid, match=r"default of input 'weight'.* takes float32 .* the default is int32 of shape \[1\]"
    ):
        runtimes.load(formats.locate(str(folder / "contradicting")), device="/cpu:0")
