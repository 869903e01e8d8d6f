"""Ragged and sparse tensors, and TF1 meta graphs that TensorFlow no longer takes as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tfserve import runtimes
from tfserve.errors import Invalid
from tfserve.models import formats
from tfserve.runtimes import conversion
from tfserve.runtimes.interface import Runtime, remarks_of
from tfserve.tensors import TensorSpec

pytestmark = pytest.mark.filterwarnings("ignore")  # TensorFlow's own


def load(path: Path | str) -> Runtime:
    return runtimes.load(formats.locate(str(path)), device="/cpu:0", runtime="tensorflow")


INPUTS = {
    "ids": np.int64([1, 2, 3]),
    "ids_1": np.int64([0, 2, 3]),
    "table": np.int64([[0, 1], [1, 2]]),
    "table_1": np.float32([5, 6]),
    "table_2": np.int64([2, 3]),
    "deep": np.float32([1, 2, 3, 4]),
    "deep_1": np.int64([0, 2, 3]),
    "deep_2": np.int64([0, 1, 3, 4]),
    "factor": np.float32(10),
}


def test_ragged_and_sparse_inputs_are_given_by_their_parts(models: Path) -> None:
    model = load(models / "composites")
    parts = {spec.name: spec.part for spec in model.signatures["serving_default"].inputs}
    assert parts == {
        "ids": "values of 'ids'",
        "ids_1": "row_splits of 'ids'",
        "table": "indices of 'table'",
        "table_1": "values of 'table'",
        "table_2": "dense_shape of 'table'",
        "deep": "values of 'deep'",
        "deep_1": "row_splits of 'deep'",
        "deep_2": "row_splits_1 of 'deep'",
        "factor": "",
    }
    assert not any(spec.is_batched for spec in model.signatures["serving_default"].inputs)
    outputs = model.run(INPUTS, ["dense", "lengths", "sums"], "serving_default")
    assert [np.asarray(each).tolist() for each in outputs] == [[[0, 50, 0], [0, 0, 60]], [2, 1], [6, 4]]
    assert {
        "input 'ids' is ragged: send its values as 'ids', its row_splits as 'ids_1', in columns",
        "input 'table' is sparse: send its indices as 'table', its values as 'table_1', its dense_shape as 'table_2',"
        " in columns",
    } < set(remarks_of(model))
    with pytest.raises(Exception, match="ragged or sparse tensor, which only TensorFlow takes"):
        conversion.signature_of(model.signatures)
    model.close()


def test_ragged_outputs_are_left_out_unless_there_are_no_others(models: Path) -> None:
    model = load(models / "composites")
    assert [spec.name for spec in model.signatures["serving_default"].outputs] == ["dense", "lengths", "sums"]
    assert remarks_of(model)[-2:] == [
        "output 'doubled' is ragged and left out",
        "output 'table' is sparse and left out",
    ]
    only = model.signatures["only_ragged"]
    assert only.outputs == (
        TensorSpec("doubled/values", "int64", (-1,), part="values of 'doubled'"),
        TensorSpec("doubled/row_splits", "int64", (-1,), part="row_splits of 'doubled'"),
    )
    names = [spec.name for spec in only.outputs]
    outputs = model.run({"ids": INPUTS["ids"], "ids_1": INPUTS["ids_1"]}, names, "only_ragged")
    assert [np.asarray(each).tolist() for each in outputs] == [[2, 4, 6], [0, 2, 3]]
    model.close()


def test_a_sparse_input_of_a_tf1_signature_has_an_input_for_each_part(models: Path) -> None:
    model = load(models / "sparse_v1")
    assert model.signatures["serving_default"].inputs == (
        TensorSpec("table/indices", "int64", (-1, 2), part="indices of 'table'"),
        TensorSpec("table/values", "float32", (-1,), part="values of 'table'"),
        TensorSpec("table/dense_shape", "int64", (2,), part="dense_shape of 'table'"),
    )
    inputs = {f"table/{part}": INPUTS[name] for part, name in
              (("indices", "table"), ("values", "table_1"), ("dense_shape", "table_2"))}  # fmt: skip
    (output,) = model.run(inputs, ["dense"], "serving_default")
    assert np.asarray(output).tolist() == [[0, 5, 0], [0, 0, 6]]
    model.close()


def test_stale_hints_of_shapes_are_dropped(models: Path, tmp_path: Path) -> None:
    model = load(models / "hints")
    (output,) = model.run({"x:0": np.float32([[1, 1]])}, ["y:0"], "serving_default")
    assert np.asarray(output).tolist() == [[3]]
    model.close()


@pytest.mark.parametrize("path", ["prefix", "prefix/", "prefix/.meta"])
def test_a_prefix_may_be_only_a_folder(models: Path, path: str) -> None:
    model = load(f"{models}/{path}")
    (output,) = model.run({"x:0": np.float32([[1, 1]])}, ["y:0"], "serving_default")
    assert np.asarray(output).tolist() == [[3]]
    model.close()


def test_an_operation_that_tensorflow_does_not_have_is_named(models: Path) -> None:
    with pytest.raises(
        Invalid, match=r"it uses the operation 'SentencepieceOp', which TensorFlow .* does not have"
    ) as told:
        load(models / "custom_op")
    assert "running on" not in told.value.message
