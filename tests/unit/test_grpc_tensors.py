"""Tensors in gRPC's messages, without a server; and the messages themselves."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tfserve.errors import Invalid
from tfserve.protocols.oip.grpc_tensors import DATATYPES, read_inputs, to_raw
from tfserve.protocols.protos import oip_pb2, packed, tensorflow_pb2
from tfserve.protocols.tfserving import grpc_tensors
from tfserve.tensors import DTYPES, Array, TensorSpec

REPOSITORY = Path(__file__).parents[2]

elements = st.sampled_from([dtype for dtype in DTYPES.values() if dtype.name not in ("string", "bfloat16")])
any_array = elements.flatmap(lambda dtype: arrays.arrays(dtype.numpy, arrays.array_shapes(min_dims=0, min_side=0)))


def one_input(array: Array, *, typed: bool) -> tuple[oip_pb2.ModelInferRequest, list[TensorSpec]]:
    name = "string" if array.dtype == object else array.dtype.name
    request = oip_pb2.ModelInferRequest()
    tensor = request.inputs.add(name="x", datatype=DTYPES[name].v2, shape=array.shape)
    if typed:
        field = DATATYPES[tensor.datatype].contents
        assert field is not None
        tensor.contents.SetInParent()
        getattr(tensor.contents, field).extend(array.ravel().tolist())
    else:
        request.raw_input_contents.append(to_raw(array))
    return request, [TensorSpec("x", name, None)]


def assert_same(given: Array, wanted: Array) -> None:
    assert given.shape == wanted.shape
    assert to_raw(given) == to_raw(wanted)


@settings(max_examples=150, deadline=None)
@given(any_array)
def test_any_array_comes_through_v2_and_tensor_protos(array: Array) -> None:
    assert_same(read_inputs(*one_input(array, typed=False))["x"], array)
    if array.dtype != np.float16:
        assert_same(read_inputs(*one_input(array, typed=True))["x"], array)
    spec = TensorSpec("x", array.dtype.name, None)
    assert_same(grpc_tensors.to_array(grpc_tensors.to_proto(array), spec), array)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=200), max_size=5))
def test_any_strings_come_through(values: list[bytes]) -> None:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    for typed in (True, False):
        assert_same(read_inputs(*one_input(array, typed=typed))["x"], array)
    assert_same(grpc_tensors.to_array(grpc_tensors.to_proto(array), TensorSpec("x", "string", None)), array)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60), st.lists(st.integers(-2, 1 << 40), max_size=3), st.sampled_from(sorted(DTYPES)))
def test_any_bytes_and_shape_are_an_array_or_refused(data: bytes, shape: list[int], name: str) -> None:
    request = oip_pb2.ModelInferRequest(raw_input_contents=[data])
    request.inputs.add(name="x", datatype=DTYPES[name].v2, shape=shape)
    proto = tensorflow_pb2.TensorProto(dtype=grpc_tensors.ELEMENTS[name].dtype, tensor_content=data)
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    spec = TensorSpec("x", name, None)
    for read in (lambda: read_inputs(request, [spec]), lambda: grpc_tensors.to_array(proto, spec)):
        with contextlib.suppress(Invalid):
            read()


def of_any_rank(shape: list[int], **fields: object) -> oip_pb2.ModelInferRequest:
    return oip_pb2.ModelInferRequest(inputs=[{"name": "x", "datatype": "UINT8", "shape": shape}], **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (of_any_rank([0, 1 << 62, 1 << 62], raw_input_contents=[b""]), "without the zeros"),
        (of_any_rank([1] * 5000, raw_input_contents=[b"1"]), "5000 dimensions"),
        (one_input(np.array([1, 300], np.uint16), typed=True)[0], "UINT8"),
    ],
)
def test_shapes_and_types_that_can_not_be_are_refused(request_: oip_pb2.ModelInferRequest, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        read_inputs(request_, [TensorSpec("x", "uint8", None)])


def test_a_number_out_of_range_is_refused() -> None:
    request = of_any_rank([2])
    request.inputs[0].contents.uint_contents.extend([1, 300])
    with pytest.raises(Invalid, match="0 to 255"):
        read_inputs(request, [TensorSpec("x", "uint8", None)])


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_half_floats_have_no_typed_contents(datatype: str) -> None:
    request = oip_pb2.ModelInferRequest(inputs=[{"name": "x", "datatype": datatype, "shape": [1]}])
    request.inputs[0].contents.fp32_contents.append(1.0)
    with pytest.raises(Invalid, match="raw_input_contents only"):
        read_inputs(request, [TensorSpec("x", DATATYPES[datatype].name, None)])


def test_strings_that_do_not_add_up_are_refused() -> None:
    request = oip_pb2.ModelInferRequest(
        inputs=[{"name": "x", "datatype": "BYTES", "shape": [1]}], raw_input_contents=[b"\x05\x00\x00\x00abc"]
    )
    with pytest.raises(Invalid, match="5 bytes was announced"):
        read_inputs(request, [TensorSpec("x", "string", None)])


def test_bfloat16_keeps_its_bits() -> None:
    array = np.array([1.5, -0.0, np.inf, 3e38], DTYPES["bfloat16"].numpy)
    assert_same(read_inputs(*one_input(array, typed=False))["x"], array)
    assert_same(grpc_tensors.to_array(grpc_tensors.to_proto(array), TensorSpec("x", "bfloat16", (4,))), array)


@pytest.mark.parametrize("count", [0, 1, 31, 32, 5000, 100_000])
def test_packed_lists_are_read_and_written_as_memory(count: int) -> None:
    values = np.random.default_rng(0).random(count, np.float32)
    message = tensorflow_pb2.TensorProto(dtype="DT_FLOAT")
    if count:
        packed.write(message, "float_val", values.tobytes())
    assert list(message.float_val) == values.tolist()
    assert bytes(packed.read(message, "float_val")) == values.tobytes()


def described(path: Path) -> str:
    """The description of the messages in a file made by protoc."""
    return next(
        line.partition("AddSerializedFile")[2] for line in path.read_text().splitlines() if "AddSerializedFile" in line
    )


def test_the_committed_messages_are_what_the_proto_files_say(tmp_path: Path) -> None:
    folder = Path("tfserve/protocols/protos")
    files = sorted(path.relative_to(REPOSITORY) for path in (REPOSITORY / folder).glob("*.proto"))
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", ".", f"--python_out={tmp_path}", *map(str, files)]
    subprocess.run(command, cwd=REPOSITORY, check=True)
    for file in files:
        made = file.with_name(f"{file.stem}_pb2.py")
        assert described(REPOSITORY / made) == described(tmp_path / made), f"{file}: run `make protos`"
