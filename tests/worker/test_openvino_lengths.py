"""OpenVINO computes sequences of any length correctly, whichever length came first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tfserve import runtimes
from tfserve.models import formats
from tfserve.runtimes.interface import Runtime
from tfserve.tensors.specs import Array

openvino = pytest.importorskip("openvino")

HEADS, SIZE = 2, 8


def saved(file: Path, length: int) -> Path:
    """Self-attention over `length` elements, without weights; -1 leaves the length open."""
    from openvino import opset13 as op

    x = op.parameter([-1, length, HEADS * SIZE], np.float32, name="x")

    def heads(factor: float) -> openvino.Node:
        scaled = op.multiply(x, op.constant(np.float32(factor)))
        split = op.reshape(scaled, op.constant([0, 0, HEADS, SIZE]), True)
        return op.transpose(split, op.constant([0, 2, 1, 3]))

    scores = op.softmax(op.matmul(heads(0.5), heads(0.7), False, True), -1)
    attended = op.transpose(op.matmul(scores, heads(1.3), False, False), op.constant([0, 2, 1, 3]))
    y = op.reshape(attended, op.constant([0, 0, HEADS * SIZE]), True)
    y.output(0).set_names({"y"})
    openvino.save_model(openvino.Model([y], [x], "attention"), file, compress_to_fp16=False)
    return file


def load(file: Path) -> Runtime:
    return runtimes.load(formats.locate(str(file)), device="/cpu:0", runtime="openvino")


def compute(model: Runtime, x: Array) -> Array:
    (y,) = model.run({"x": x}, ["y"], "serving_default")
    return np.asarray(y)


def expected(x: Array) -> Array:
    split = x.reshape(*x.shape[:2], HEADS, SIZE).transpose(0, 2, 1, 3).astype(np.float64)
    scores = np.exp(0.35 * split @ split.transpose(0, 1, 3, 2))
    scores /= scores.sum(-1, keepdims=True)
    return np.asarray((1.3 * scores @ split).transpose(0, 2, 1, 3).reshape(x.shape))


@pytest.mark.parametrize("first", [1, 2, 20])
def test_a_length_is_computed_correctly_after_any_other(tmp_path: Path, first: int) -> None:
    random = np.random.default_rng(0)
    model = load(saved(tmp_path / "attention.xml", length=-1))
    for length in (first, 20, 3, 1, 33):
        x = random.normal(size=(2, length, HEADS * SIZE)).astype(np.float32)
        np.testing.assert_allclose(compute(model, x), expected(x), atol=1e-5)


def test_a_number_of_rows_is_computed_correctly_after_any_other(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    model = load(saved(tmp_path / "attention.xml", length=7))
    for rows in (1, 16, 2, 64):
        x = random.normal(size=(rows, 7, HEADS * SIZE)).astype(np.float32)
        np.testing.assert_allclose(compute(model, x), expected(x), atol=1e-5)
