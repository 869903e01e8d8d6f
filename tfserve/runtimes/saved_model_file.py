"""The signatures in a SavedModel's `saved_model.pb`, read without TensorFlow.

The file is a protocol buffer, of which a few fields are needed. Their numbers are those of TensorFlow's
`saved_model.proto` and `meta_graph.proto`.
"""

from __future__ import annotations

from pathlib import Path

from tfserve.errors import Invalid
from tfserve.runtimes import protobuf
from tfserve.tensors import Shape, Signature, TensorSpec

DTYPES = {
    1: "float32",
    2: "float64",
    3: "int32",
    4: "uint8",
    5: "int16",
    6: "int8",
    7: "string",
    8: "complex64",
    9: "int64",
    10: "bool",
    11: "qint8",
    12: "quint8",
    13: "qint32",
    14: "bfloat16",
    15: "qint16",
    16: "quint16",
    17: "uint16",
    18: "complex128",
    19: "float16",
    20: "resource",
    21: "variant",
    22: "uint32",
    23: "uint64",
    24: "float8_e5m2",
    25: "float8_e4m3fn",
    26: "float8_e4m3fnuz",
    27: "float8_e4m3b11fnuz",
    28: "float8_e5m2fnuz",
    29: "int4",
    30: "uint4",
    31: "int2",
    32: "uint2",
    33: "float4_e2m1fn",
}
"""TensorFlow's numbers of its types."""


def signatures(folder: Path) -> dict[str, Signature]:
    """What a SavedModel can be asked, by name, as TensorFlow tells it. Raises `Invalid`."""
    file = folder / "saved_model.pb"
    if not file.is_file():
        raise Invalid(f"{folder} has no saved_model.pb; other forms of it are read by TensorFlow only.")
    try:
        found = dict(map(protobuf.entry, protobuf.of(_serving(memoryview(file.read_bytes())), 5)))
        # A name that begins with two underscores is not meant for callers.
        return {name: _signature(data) for name, data in sorted(found.items()) if not name.startswith("__")}
    except (IndexError, KeyError, UnicodeDecodeError, ValueError) as error:
        raise Invalid(f"{file} is damaged: its signatures can't be read. Save or copy it again.") from error


def _serving(saved_model: memoryview) -> memoryview:
    """The meta graph that is for serving, else the first."""
    metas = list(protobuf.of(saved_model, 2))
    return next((meta for meta in metas if b"serve" in _tags(meta)), metas[0])


def _tags(meta: memoryview) -> list[bytes]:
    return [bytes(tag) for info in protobuf.of(meta, 1) for tag in protobuf.of(info, 4)]


def _signature(data: memoryview) -> Signature:
    method = next((str(name, "utf-8") for name in protobuf.of(data, 3)), "").rpartition("/")[2]
    return Signature(_specs(data, 1), _specs(data, 2), method if method in ("classify", "regress") else "")


def _specs(data: memoryview, number: int) -> tuple[TensorSpec, ...]:
    """Sparse and composite tensors have no name, and are left out."""
    entries = sorted(map(protobuf.entry, protobuf.of(data, number)), key=lambda entry: entry[0])
    return tuple(_spec(name, info) for name, info in entries if any(protobuf.of(info, 1)))


def _spec(name: str, info: memoryview) -> TensorSpec:
    fields = {field.number: field for field in protobuf.fields(info)}
    dtype = DTYPES.get(fields[2].value, f"type {fields[2].value}")
    return TensorSpec(name, dtype, _shape(fields[3].bytes) if 3 in fields else ())


def _shape(data: memoryview) -> Shape | None:
    fields = list(protobuf.fields(data))
    if any(field.number == 3 and field.value for field in fields):
        return None
    sizes = [
        {size.number: size.value for size in protobuf.fields(field.bytes)} for field in fields if field.number == 2
    ]
    return tuple(_signed(size.get(1, 0)) for size in sizes)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value
