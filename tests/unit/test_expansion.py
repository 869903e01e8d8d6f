"""Texts and messages that would become too much are refused before they are built; large ones that may be are read."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from tfserve.errors import Invalid
from tfserve.tensors import json_chunks, json_limits, json_numbers, tensor_json
from tfserve.tensors.casting import Ragged
from tfserve.tensors.dtypes import DTYPES
from tfserve.tensors.json_limits import ExpandsTooMuch, check_expansion, check_text, depth
from tfserve.tensors.json_numbers import Numbers
from tfserve.tensors.specs import Signature, TensorSpec
from tfserve.web.api.json_requests import decode
from tfserve.web.api.protos import oip_pb2 as v2
from tfserve.web.api.protos import tensorflow_pb2 as tf
from tfserve.web.api.v1 import tensor_proto
from tfserve.web.api.v2.requests import decode_infer
from tfserve.web.api.workspace.requests import Predict
from tfserve.web.predictions import message_expansion
from tfserve.web.predictions.signature_checks import max_body_bytes

MIB = 2**20
PREDICT = msgspec.json.Decoder(Predict)
MANY = [b'"",', b'"ab",', b"[],", b"{},", b'{"a":1},', b"[[[[]]]],", b'{"b64":""},', b'"\\"",']


def listed(unit: bytes, count: int) -> bytes:
    return b"[" + unit * count + unit.rstrip(b",") + b"]"


@pytest.mark.parametrize("unit", MANY)
def test_millions_of_small_values_are_refused_by_every_reader_before_they_are_built(unit: bytes) -> None:
    text = listed(unit, 2_000_000)
    used_s = time.process_time()
    with pytest.raises(ExpandsTooMuch):
        tensor_json.decode_leniently(b'{"instances": ' + text + b"}")
    with pytest.raises(ExpandsTooMuch):
        decode_infer(b'{"inputs": [{"name": "x", "shape": [1], "datatype": "BYTES", "data": ' + text + b"}]}")
    with pytest.raises(ExpandsTooMuch):
        decode(b'{"name": "a", "fetches": "x", "feed_dict": {"x": ' + text + b"}}", PREDICT)
    assert time.process_time() - used_s < 5, "of the processor's time, for all three"


@pytest.mark.parametrize(
    "make",
    [
        lambda: listed(b'"a text, of some [words]",', 100_000),
        lambda: json.dumps("[,{" * 2 * MIB).encode(),
        lambda: json.dumps('\\"[' * MIB).encode(),
        lambda: b'"' + b"\\\\" * 3 * MIB + b'"',
        lambda: listed(b'{"age": 35, "income": 1.5},', 300_000),
    ],
)
def test_large_texts_of_few_values_are_taken(make: Callable[[], bytes]) -> None:
    text = make()
    check_text(text)
    check_expansion(text)


def test_what_is_in_strings_is_neither_nesting_nor_values_wherever_pieces_are_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for piece in range(1, 40):
        monkeypatch.setattr(json_limits, "PIECE", piece)
        assert depth(rb'{"a\\\"[[[": ["]\\", "\\\\\"{", [[]]]}') == 4
        assert depth(rb'["\\\\", "[", ["\"]"]]') == 2


def test_invalid_utf8_is_found_with_its_place_in_a_large_text_too() -> None:
    text = b'"' + "ä".encode() * MIB + b'\xff"'
    with pytest.raises(Invalid, match=f"invalid byte at offset {2 * MIB + 1}"):
        check_text(text)
    check_text(text.replace(b"\xff", b""))


# --- long lists of numbers


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_chunks, "PIECE", 7)
    monkeypatch.setattr(json_numbers, "WHOLE", 7)


VALID = [
    "[1, 2, 3, 4, 5, 6, 7]", "[[1,2,3],[4,5,6]]", "[ [ 1 , 2 ] , [ 3 , -4 ] ]", "[[[1.5],[2]],[[3],[4e2]]]",
    "[1,2,3,4,5,6,7,8,9,10.5]", "[18446744073709551615,0,1]", "[-1,9223372036854775807]", "[[[7000000000]]]",
]  # fmt: skip
INVALID = [
    "[1,2,3,4,5,6,7,]", "[1,,2,3,4,5,6,7]", "[1 2,3,4,5,6,7,8]", "[[1,2,3],[4,5,6]", "[1[,2,3,4,5,6]]", "[1,2]3,4,5,6]",
    "[[1,2,3]4,[5,6,7]]", "[[1,2],[3,4]],[[5,6]]", "[01,2,3,4,5,6,7]", "[1.,2,3,4,5,6,7]", "[[1,2,3][4,5,6]]",
    "[-,1,2,3,4,5,6]", "[1,2,3,4],5]", "[[1,2,3,[4,5]]",
]  # fmt: skip
OTHER = ["[[],[],[],[]]", "[true,false,true]", "[1,null,2,3,4]", "[[1,2,3],[]]", "[1,[],2,3,4,5]", "[1e400,1,1,1,1]"]


def flat(numbers: Numbers) -> Any:
    return np.concatenate(numbers.arrays)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("text", VALID)
def test_numbers_read_piece_by_piece_are_those_of_the_whole_list(text: str) -> None:
    numbers = json_numbers.parse(text.encode())
    assert numbers is not None
    expected = np.array(json.loads(text))
    assert numbers.shape == expected.shape
    assert (flat(numbers).reshape(expected.shape) == expected).all()


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("text", INVALID + OTHER)
def test_what_is_no_json_or_not_all_numbers_is_no_list_of_numbers(text: str) -> None:
    assert json_numbers.parse(text.encode()) is None


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("text", ["[[1,2,3],[4,5]]", "[1,[2,3],4,5,6]", "[[1,2],[3,4],5,6]"])
def test_a_ragged_list_is_known_as_such(text: str) -> None:
    numbers = json_numbers.parse(text.encode())
    assert numbers is not None
    assert numbers.shape is None


@pytest.mark.usefixtures("small_pieces")
def test_nan_is_read_piece_by_piece_where_it_is_allowed() -> None:
    text = b"[1.5, NaN, -Infinity, 2, Infinity]"
    assert json_numbers.parse(text) is None
    numbers = json_numbers.parse(text, lenient=True)
    assert numbers is not None
    values = flat(numbers).tolist()
    assert values[0:1] + values[2:] == [1.5, -np.inf, 2.0, np.inf]


def test_many_mebibytes_of_numbers_are_read_and_wrong_ones_refused_without_objects_for_each() -> None:
    body = b'{"instances": ' + listed(b"[0.5,1.5],", MIB) + b"}"
    value = tensor_json.decode_leniently(body)["instances"]
    assert isinstance(value, Numbers)
    assert tensor_json.to_array(value, TensorSpec("x", "float32", (-1, 2)), "x").shape == (MIB + 1, 2)
    for dtype, shape, words in (
        ("int64", None, "out of range for"),
        ("float32", (3,), "shape"),
        ("string", None, "string"),
    ):
        with pytest.raises(Invalid, match=words):
            tensor_json.to_array(value, TensorSpec("x", dtype, shape), "x")
    ragged = tensor_json.decode_leniently(b'{"x": ' + listed(b"[1],[1,2],", MIB // 4) + b"}")["x"]
    with pytest.raises(Ragged):
        tensor_json.to_array(ragged, TensorSpec("x", "float32", None), "x")


@pytest.mark.parametrize(
    "junk", [b"[1,2,]", b"[1 2]", b"[01]", b"[1,[2]", b"[1.e5]", b"[NaN]", b'["a" "b"]', b"[1[,2]]"]
)
def test_json_is_checked_in_fields_that_nobody_reads_too(junk: bytes) -> None:
    long_junk = b"[" + b"1.25, " * 3000 + junk + b"]"
    unused = {
        tensor_json.decode: b'{"inputs": [], "unused": ' + long_junk + b"}",
        decode_infer: b'{"inputs": [], "unused": ' + long_junk + b"}",
    }
    for read, body in unused.items():
        with pytest.raises(Invalid):
            read(body)
    if junk != b"[NaN]":
        with pytest.raises(Invalid):
            tensor_json.decode_leniently(unused[tensor_json.decode])


def test_a_byte_order_mark_is_not_part_of_the_json() -> None:
    body = b'\xef\xbb\xbf{"inputs": []}'
    assert tensor_json.decode(body) == tensor_json.decode_leniently(body) == {"inputs": []}
    assert decode_infer(body).inputs == []


def test_large_arrays_are_written_piece_by_piece_with_the_same_text(monkeypatch: pytest.MonkeyPatch) -> None:
    arrays: list[Any] = [np.arange(24, dtype=np.float32).reshape(2, 3, 4), np.arange(7), np.zeros((3, 0, 2))]
    arrays += [np.array([[b"a", b"\xff"], [b"", b"c"]], object), np.array([[1, np.nan, np.inf], [2, 3, 4]])]
    whole = [tensor_json.from_array(array, tokens=True) for array in arrays]
    monkeypatch.setattr(tensor_json, "WRITTEN_AT_ONCE", 3)
    assert [tensor_json.from_array(array, tokens=True) for array in arrays] == whole


# --- messages


def infer_request(**contents: Any) -> v2.ModelInferRequest:
    request = v2.ModelInferRequest(model_name="m")
    request.inputs.add(name="x", datatype="BYTES", shape=[1], contents=contents)
    return request


@pytest.mark.parametrize(
    ("make", "is_taken"),
    [
        (lambda: infer_request(bytes_contents=[b""] * 1_000_000), False),
        (lambda: infer_request(bytes_contents=[b"some text"] * 100_000), True),
        (lambda: infer_request(int_contents=[1] * 17 * MIB), False),
        (lambda: infer_request(int_contents=[1] * MIB), True),
        (lambda: infer_request(fp32_contents=np.ones(8 * MIB, np.float32)), True),
        (lambda: v2.ModelInferRequest(inputs=[v2.ModelInferRequest.InferInputTensor()] * 1_000_000), False),
        (lambda: v2.ModelInferRequest(raw_input_contents=[bytes(32 * MIB)]), True),
        (lambda: tf.TensorProto(string_val=[b""] * 1_000_000), False),
        (lambda: tf.TensorProto(int64_val=[1] * 17 * MIB), False),
    ],
)
def test_messages_are_refused_by_what_they_expand_to(make: Callable[[], Any], is_taken: bool) -> None:
    message = make()
    data = message.SerializeToString()
    if is_taken:
        message_expansion.check(data, message.DESCRIPTOR)
    else:
        assert not message_expansion.is_small(data, message.DESCRIPTOR)
        with pytest.raises(message_expansion.MessageExpandsTooMuch):
            message_expansion.check(data, message.DESCRIPTOR)


def test_a_damaged_message_is_left_to_protobuf() -> None:
    whole = infer_request(bytes_contents=[b"abc"] * 50).SerializeToString()
    for end in range(len(whole)):
        message_expansion.check(whole[:end], v2.ModelInferRequest.DESCRIPTOR)
        message_expansion.check(whole[end:], v2.ModelInferRequest.DESCRIPTOR)
    message_expansion.check(b"\xff" * 100, v2.ModelInferRequest.DESCRIPTOR)


@pytest.mark.parametrize("dtype", ["float32", "string", "bool"])
def test_one_value_stands_for_no_more_than_a_few_mebibytes(dtype: str) -> None:
    proto = tf.TensorProto(dtype=DTYPES[dtype].v1)
    proto.tensor_shape.dim.add(size=2**27)
    getattr(proto, tensor_proto.FIELDS[dtype]).append(b"" if dtype == "string" else 1)
    assert len(proto.SerializeToString()) < 35
    with pytest.raises(Invalid, match="The last one is only repeated to fill arrays of up to 4194304 bytes"):
        tensor_proto.to_array(proto, TensorSpec("x", dtype, (-1,)))


def test_a_model_whose_inputs_have_fixed_sizes_takes_no_larger_bodies_than_can_fit() -> None:
    fixed, open_ = TensorSpec("x", "float32", (1, 224, 224, 3)), TensorSpec("y", "float32", (-1, 3))
    limit = max_body_bytes([Signature((fixed,), ())])
    assert limit is not None
    assert 224 * 224 * 3 * 30 < limit < 64 * MIB
    for other in (open_, TensorSpec("z", "float32", None), TensorSpec("s", "string", ())):
        assert max_body_bytes([Signature((fixed,), ()), Signature((other,), ())]) is None


def test_the_bodies_of_the_report_are_small_when_they_are_packed() -> None:
    assert len(gzip.compress(listed(b'"",', 3_000_000))) < 60_000


def test_other_threads_get_their_turn_while_millions_of_numbers_are_read() -> None:
    body = b'{"x": [' + b"1," * 15_000_000 + b"1]}"
    assert longest_hold_s(lambda: json_numbers.decode(body)) < 0.1


def longest_hold_s(work: Callable[[], object]) -> float:
    """Processor time that passed while this thread waited for its turn: it tries every millisecond."""
    thread, longest_s = threading.Thread(target=work), 0.0
    thread.start()
    while thread.is_alive():
        begun_s = time.process_time()
        time.sleep(0.001)
        longest_s = max(longest_s, time.process_time() - begun_s)
    return longest_s


@pytest.mark.usefixtures("small_pieces")
def test_pieces_are_cut_at_commas_however_much_space_is_between_them() -> None:
    for text in ("[1,2" + " " * 50 + ",3]", " " * 30 + "[10000000000, 2]", "[[1,2]," + "\n" * 20 + "[3,4]]"):
        numbers = json_numbers.parse(text.strip().encode())
        assert numbers is not None
        assert flat(numbers).reshape(numbers.shape).tolist() == json.loads(text)
    for text in ("[1,,2,3,4]", "[1,2,3,4,5,]", "[1,2,3,4 5,6]", ",1,2,3,4,5,6"):
        assert json_numbers.parse(text.encode()) is None


def test_a_list_of_too_many_numbers_is_refused_by_a_part_of_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_limits, "MAX_COST_NS", 1_000_000)
    text = b"[" + b"1," * 300_000 + b"1]"
    with pytest.raises(ExpandsTooMuch):
        json_limits.check_expansion(memoryview(text))
    json_limits.check_expansion(memoryview(text)[:30_000])
