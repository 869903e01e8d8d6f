"""Complex numbers, a single text, outputs without elements, and errors that belong to one request."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.made import made_by
from tfserve import runtimes
from tfserve.errors import Invalid
from tfserve.models import formats
from tfserve.runtimes import litert, litert_calls
from tfserve.runtimes.interface import Runtime, remarks_of
from tfserve.tensors.specs import Array

LITERT = ("{}.tflite", "{}_plain.tflite")
EVERY = ("{}", *LITERT)


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_by(Path(__file__).with_name("make_odd_tensors.py"), tmp_path_factory)


@pytest.fixture
def model(odd: Path, request: pytest.FixtureRequest) -> Iterator[Runtime]:
    loaded = runtimes.load(formats.locate(str(odd / request.param)), device="/cpu:0")
    yield loaded
    loaded.close()


def every(name: str, files: tuple[str, ...]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("model", [each.format(name) for each in files], indirect=True)


def computed(model: Runtime, array: Array) -> list[Array | None]:
    """All outputs in the order of their names, for a model with one input."""
    ((name, signature),) = model.signatures.items()
    return model.run({signature.inputs[0].name: array}, [spec.name for spec in signature.outputs], name)


@every("greeting", EVERY)
@pytest.mark.parametrize("text", [b"hello", b"", b"a\0", b"\xff" * 1000])
def test_a_text_without_dimensions_is_an_array_of_its_bytes(model: Runtime, text: bytes) -> None:
    (same,) = computed(model, np.array(text, object))
    assert same is not None
    assert (same.shape, same.dtype, same.item()) == ((), np.dtype(object), text)


@every("positives", EVERY)
@pytest.mark.parametrize("rows", [[[1.0, -1.0]], [[-1.0, -1.0]], [], [[-1.0, 2.0], [0.0, 0.0]]])
def test_an_output_may_have_no_elements(model: Runtime, rows: list[list[float]]) -> None:
    x = np.array(rows, np.float32).reshape(-1, 2)
    outputs = {array.dtype.name: array for array in computed(model, x) if array is not None}
    assert outputs["int64"].tolist() == np.argwhere(x > 0).tolist()
    assert outputs["int64"].shape[1:] == (2,)
    np.testing.assert_array_equal(outputs["float32"], x * 2)


def refused(model: Runtime, *at: int) -> str:
    with pytest.raises(Invalid) as caught:
        computed(model, np.array(at, np.int32))
    return caught.value.message


@every("table", LITERT)
def test_an_error_message_has_nothing_of_earlier_requests(model: Runtime) -> None:
    first = refused(model, 7)
    assert "gather index out of bounds. Node number" in first
    assert [refused(model, 0, at) for at in (7, 8, 9)] == [first] * 3
    (y,) = computed(model, np.array([1, 0], np.int32))
    assert y is not None
    assert y.tolist() == [2.0, 1.0]
    assert refused(model, 7) == first


@every("table", LITERT)
def test_an_interpreter_with_a_long_error_text_is_replaced(model: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(model, litert.LiteRtModel)
    monkeypatch.setattr(litert, "_LONGEST_REPORT", 300)
    messages = {refused(model, 7) for _ in range(20)}
    assert len(messages) == 1
    assert model._reports.length <= 300


@every("spectrum", ("{}",))
def test_an_output_of_a_type_that_no_protocol_has_is_left_out(model: Runtime) -> None:
    x = np.array([[1.0, 2.0, 3.0, 4.0]], np.float32)
    assert model.signatures["serving_default"].output_names == ("size",)
    assert list(remarks_of(model)) == ["output 'waves' is complex64 and left out: only /predict/ returns it, as text"]
    (size,) = computed(model, x)
    (target,) = model.fetches("waves", "serving_default")
    (waves,) = model.run({"x": x}, [target.name], "serving_default")
    assert waves is not None
    np.testing.assert_allclose(np.abs(waves), size)


@every("magnitude", ("{}",))
def test_an_input_of_such_a_type_is_a_remark(model: Runtime) -> None:
    assert list(remarks_of(model)) == [
        "input 'z' is complex64, which requests can't contain: its signature can't be called"
    ]


def test_an_error_of_the_library_itself_is_not_cut() -> None:
    reports = litert_calls.Reports()
    assert [reports.last(RuntimeError(text)) for text in ("one", "onetwo", "other")] == ["one", "two", "other"]
    assert reports.last(ValueError("other")) == "other"
    told = [reports.last(RuntimeError(f"other{text}Node number 1 failed.")) for text in ("(2 != 3)", "bad shapes.")]
    assert told == ["(2 != 3). Node number 1 failed.", "otherbad shapes. Node number 1 failed."]
