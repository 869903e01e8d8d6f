"""Which models are stateful, read from real files of TensorFlow, Keras and LiteRT; and that their state is reset."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tfserve import runtimes
from tfserve.errors import Unsupported
from tfserve.models import formats
from tfserve.runtimes import state
from tfserve.runtimes.interface import Runtime

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # TensorFlow's and Keras' own

STATEFUL = ("plain", "in_branches", "in_a_table", "in_a_part", "ref", "lstm", "plain.tflite")
STATELESS = ("random", "reading", "usual", "noise", "reading.tflite")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("stateful")
    program = Path(__file__).with_name("make_stateful.py")
    done = subprocess.run([sys.executable, program, made], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return made


def load(folder: Path, name: str) -> Runtime:
    return runtimes.load(formats.locate(str(folder / name)), device="/cpu:0")


def outputs(model: Runtime, calls: int) -> list[list[float]]:
    name = "serving_default" if "serving_default" in model.signatures else next(iter(model.signatures))
    signature = model.signatures[name]
    inputs = {s.name: np.ones([abs(size) for size in s.shape or ()], np.float32) for s in signature.inputs}
    names = [spec.name for spec in signature.outputs]
    found = [model.run(inputs, names, name)[0] for _ in range(calls)]
    return [each.ravel().tolist() for each in found if each is not None]


@pytest.mark.parametrize("name", STATEFUL)
def test_the_state_of_a_model_is_found_and_reset(folder: Path, name: str) -> None:
    model = load(folder, name)
    assert state.is_stateful(model)
    assert state.remarks(model) == [state.STATEFUL]
    first = outputs(model, 3)
    assert first[0] != first[1] != first[2]
    for _ in range(2):
        state.reset(model)
        assert outputs(model, 3) == first


@pytest.mark.parametrize("name", STATELESS)
def test_reading_variables_and_drawing_random_numbers_is_no_state(folder: Path, name: str) -> None:
    assert not state.is_stateful(load(folder, name))


def test_a_queue_is_a_state_that_can_t_be_reset(folder: Path) -> None:
    model = load(folder, "queue")
    assert state.is_stateful(model)
    assert not state.may_compute(model)
    with pytest.raises(Unsupported, match="stateless: true needs a state that can be reset"):
        state.stateless(model)
    assert outputs(model, 1) == [[2.0]], "nothing was computed while it was loaded"


@pytest.mark.parametrize("name", ["plain", "lstm", "plain.tflite"])
def test_stateless_resets_before_each_call(folder: Path, name: str) -> None:
    model = state.stateless(load(folder, name))
    first, second, third = outputs(model, 3)
    assert first == second == third
    assert state.remarks(model) == [state.STATELESS]
