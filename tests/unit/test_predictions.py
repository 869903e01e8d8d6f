"""What web and model workers say to each other comes through unchanged, whatever the tensors are."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes

from tfserve.errors import Failure
from tfserve.ipc.frames import BrokenFrame
from tfserve.ipc.prediction_frames import BUFFER_BYTES, HEADER, LARGE_BYTES, PredictionReader, encode
from tfserve.ipc.predictions import ComputeRequest, ComputeResult, Drop, Refusal, split_strings, to_array, to_tensor
from tfserve.tensors.dtypes import DTYPES
from tfserve.tensors.specs import Array

SHAPES = st.just(()) | array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5)


@st.composite
def arrays(draw: st.DrawFn) -> Array:
    """Of every type and shape; also transposed, reversed, with gaps, and not at the start of their memory."""
    name, shape = draw(st.sampled_from(sorted(DTYPES))), draw(SHAPES)
    count = int(np.prod(shape))
    if name == "string":
        flat = np.empty(count, object)
        flat[:] = draw(st.lists(st.binary(max_size=20), min_size=count, max_size=count))
    else:
        dtype = DTYPES[name].numpy
        data = draw(st.binary(min_size=count * dtype.itemsize, max_size=count * dtype.itemsize))
        raw = np.frombuffer(data, np.uint8)
        flat = (raw & 1).view(bool) if name == "bool" else raw.view(dtype)
    array = flat.reshape(shape)
    return draw(st.sampled_from(VIEWS))(array)


def _with_gaps(array: Array) -> Array:
    twice = np.empty((*array.shape, 2), array.dtype)
    twice[..., 0] = twice[..., 1] = array
    return twice[..., 1]


VIEWS: list[Any] = [
    lambda array: array,
    lambda array: array.T,
    lambda array: array[::-1] if array.ndim else array,
    lambda array: array[1:] if array.ndim else array,
    _with_gaps,
    lambda array: np.broadcast_to(array, (2, *array.shape)),
    np.asfortranarray,
]


def same(given_: Array, back: Array) -> bool:
    """To the last bit: NaN of all sorts included."""
    if given_.dtype == object:
        return back.dtype == object and given_.shape == back.shape and given_.tolist() == back.tolist()
    return (given_.dtype, given_.shape, given_.tobytes()) == (back.dtype, back.shape, back.tobytes())


def received(data: bytes, pieces: int = 1) -> list[tuple[int, Any]]:
    """What the other process reads, when so many pieces arrive."""
    reader, messages, at = PredictionReader(), [], 0
    step = -(-len(data) // pieces)
    while at < len(data):
        room = reader.room()
        count = min(step, len(data) - at, len(room))
        room[:count] = data[at : at + count]
        messages += reader.received(count)
        at += count
    return messages


def packed(request_id: int, message: Any) -> bytes:
    return b"".join(encode(request_id, message))


def over_the_line(message: Any) -> Any:
    """As the other process reads it, from two pieces."""
    ((request_id, back),) = received(packed(7, message), pieces=2)
    assert request_id == 7
    return back


def _damaged(array: Array, at: int, byte: int) -> bytes:
    body = bytearray(packed(1, ComputeRequest("s", ("x",), (to_tensor(array),), ("y",))))
    body[at % len(body)] = byte
    return bytes(body)


@settings(max_examples=100, deadline=None)
@given(st.lists(arrays(), max_size=3), st.text(max_size=5), st.integers(0, 7))
def test_any_arrays_come_through_unchanged(given_: list[Array], text: str, urgency: int) -> None:
    names = tuple(f"{text}{number}" for number in range(len(given_)))
    ask = over_the_line(ComputeRequest(text, names, tuple(map(to_tensor, given_)), (text,), urgency))
    assert (ask.signature, ask.names, ask.outputs, ask.urgency) == (text, names, (text,), urgency)
    assert all(map(same, given_, map(to_array, ask.tensors)))
    answer = over_the_line(ComputeResult(tuple(map(to_tensor, given_)), 1, 2, 3, 4, 5))
    assert all(map(same, given_, map(to_array, answer.tensors)))
    assert all(to_array(tensor).flags.aligned for tensor in answer.tensors)


def test_a_drop_and_a_refusal_come_through() -> None:
    failure = Failure(code="invalid", message="no – ‘x’", detail={"field": "x", "number": 2**53 + 1})
    assert over_the_line(Refusal(failure)) == Refusal(failure)
    assert over_the_line(Drop(2**62)) == Drop(2**62)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60) | st.builds(_damaged, arrays(), st.integers(0, 200), st.integers(0, 255)))
def test_any_other_bytes_are_a_broken_frame(data: bytes) -> None:
    with contextlib.suppress(BrokenFrame):
        received(data)


@pytest.mark.parametrize("pieces", [1, 2, 7])
def test_large_and_small_tensors_come_through_in_whatever_pieces(pieces: int) -> None:
    """Also from the middle of the reader's buffer, one frame after the other."""
    random = np.random.default_rng(1)
    small = random.random((3, 5)).astype(np.float32)
    large = [random.random(size) for size in (LARGE_BYTES // 8, 12_345, BUFFER_BYTES, 777_777)]
    asks = [
        ComputeRequest("s", ("a", "b", "c"), tuple(map(to_tensor, (each, small, each[::-1]))), ("y",)) for each in large
    ]  # fmt: skip
    plain = ComputeRequest("s", ("a",), (to_tensor(small),), ("y",))
    messages = [message for ask in asks for message in (plain, ask, Drop(4))]
    back = received(b"".join(packed(number, message) for number, message in enumerate(messages)), pieces)
    assert [number for number, _ in back] == list(range(len(messages)))
    for (_, got), sent in zip(back, messages, strict=True):
        if isinstance(sent, ComputeRequest):
            assert all(map(same, map(to_array, sent.tensors), map(to_array, got.tensors)))
            assert all(to_array(tensor).flags.aligned for tensor in got.tensors)


def test_a_frame_that_says_nonsense_of_its_tensors_is_broken() -> None:
    tensor = to_tensor(np.zeros(LARGE_BYTES, np.uint8))
    whole = packed(1, ComputeResult((tensor,)))
    length, request_id, text = HEADER.unpack_from(whole)
    cut = HEADER.pack(length - 1, request_id, text) + whole[HEADER.size : -1]
    with pytest.raises(BrokenFrame, match="end at"):
        received(cut)
    with pytest.raises(BrokenFrame, match="announced"):
        received(HEADER.pack(length, request_id, length + 1) + whole[HEADER.size :])
    with pytest.raises(BrokenFrame, match="announced"):
        received(HEADER.pack(2**32 - 1, 1, 5) + b"12345")


@given(st.binary(max_size=60))
def test_strings_are_split_as_their_lengths_say_or_refused(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        values = split_strings(data)
        assert b"".join(len(value).to_bytes(4, "little") + value for value in values) == data


def test_what_comes_over_the_line_can_not_be_written() -> None:
    (tensor,) = over_the_line(ComputeResult((to_tensor(np.zeros(4, np.uint8)),))).tensors
    with pytest.raises(ValueError, match="read-only"):
        to_array(tensor)[0] = 1
