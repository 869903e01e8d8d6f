"""The signatures of a SavedModel or a TF1 meta graph, read without TensorFlow.

The file is a protocol buffer, of which a few fields are needed. Their numbers are those of TensorFlow's
`saved_model.proto` and `meta_graph.proto`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from tfserve.errors import Invalid
from tfserve.models.protobuf import Field, entry, of
from tfserve.models.protobuf import fields as fields_of
from tfserve.runtimes import composites
from tfserve.tensors.dtypes import DTYPES, OTHER_NUMBERS
from tfserve.tensors.specs import Shape, Signature, TensorSpec

_TYPES = {dtype.number: name for name, dtype in DTYPES.items()} | OTHER_NUMBERS
"""TensorFlow's numbers of its types; those of references are 100 higher."""

_SPARSE_FIELDS = (2, 1, 3)
"""The fields of a sparse tensor's message: those with the names of the indices, the values and the dense shape."""

_KINDS = {1: composites.SPARSE, 3: composites.RAGGED}
"""TensorFlow's numbers of the classes of composite tensors."""


class Tensors(NamedTuple):
    """A signature, and the names that its inputs and outputs have in the graph. `remarks` are for its users."""

    signature: Signature
    inputs: dict[str, str]
    outputs: dict[str, str]
    remarks: list[str]


class _Named(NamedTuple):
    spec: TensorSpec
    tensor: str


def signatures(folder: Path) -> dict[str, Signature]:
    """The public signatures of a SavedModel by name, as TensorFlow reads them. Raises `Invalid`."""
    file = folder / "saved_model.pb"
    if not file.is_file():
        raise Invalid(f"{folder} has no saved_model.pb. Only TensorFlow can read its other forms.")
    return {name: each.signature for name, each in of_saved_model(file.read_bytes(), file).items()}


def of_saved_model(content: bytes, file: Path) -> dict[str, Tensors]:
    """The public signatures in a SavedModel message; `file` is for the message. Raises `Invalid`."""
    try:
        return _signatures(_serving(memoryview(content)))
    except (IndexError, KeyError, UnicodeDecodeError, ValueError) as error:
        raise Invalid(f"{file} is damaged: its signatures can't be read. Save or copy it again.") from error


def of_meta_graph(content: bytes) -> dict[str, Tensors]:
    """The public signatures in a meta graph. Raises `ValueError` or `LookupError` when it is damaged."""
    return _signatures(memoryview(content))


def _signatures(meta: memoryview) -> dict[str, Tensors]:
    """A name that begins with two underscores is internal."""
    found = {name: data for name, data in map(entry, of(meta, 5)) if not name.startswith("__")}
    arguments, kinds = list(_arguments(meta)), _composite_kinds(meta)
    return {name: _tensors(data, arguments, kinds) for name, data in sorted(found.items())}


def rank(tags: Collection[str]) -> int:
    """The meta graph with the lowest rank is served: that for any device, else one for some device (serve, tpu)."""
    return 2 if "serve" not in tags else len(set(tags)) > 1


def _serving(saved_model: memoryview) -> memoryview:
    metas = list(of(saved_model, 2))
    if not metas:
        raise ValueError("no meta graph")
    return min(metas, key=lambda meta: rank(_tags(meta)))


def _tags(meta: memoryview) -> list[str]:
    return [str(tag, "utf-8") for info in of(meta, 1) for tag in of(info, 4)]


def _arguments(meta: memoryview) -> Iterator[list[tuple[str, str]]]:
    """For each function of the graph its arguments: their names, and the user's names for them."""
    for function in _path(meta, 2, 2, 1):
        names = [_string(argument, 1) for argument in _path(function, 1, 2)]
        entries = [{field.number: field for field in fields_of(entry)} for entry in of(function, 7)]
        given = {entry[1].value if 1 in entry else 0: _given_name(entry[2].bytes) for entry in entries if 2 in entry}
        yield [(name, given.get(n, "")) for n, name in enumerate(names)]


def _given_name(attributes: memoryview) -> str:
    found = dict(map(entry, of(attributes, 1)))
    return _string(found.get("_user_specified_name", memoryview(b"")), 2)


def _composite_kinds(meta: memoryview) -> set[tuple[str, int]]:
    """The kinds of ragged and sparse arguments of all functions, with the number of their parts."""
    found: set[tuple[str, int]] = set()
    for function in map(entry, _path(meta, 7, 2)):
        pending = list(of(function[1], 3))
        while pending:
            fields = {field.number: field for field in fields_of(pending.pop())}
            if 34 in fields:  # a type spec
                kind, parts = _type_spec(fields[34].bytes)
                found.add((kind, parts))
            pending += [each for n in (51, 52) if n in fields for each in of(fields[n].bytes, 1)]
            pending += [entry(each)[1] for n in (53, 54) if n in fields for each in of(fields[n].bytes, 1)]
    return found


def _type_spec(data: memoryview) -> tuple[str, int]:
    """The kind of a composite tensor, and its number of parts."""
    fields = {field.number: field for field in fields_of(data)}
    kind = _KINDS.get(fields[1].value if 1 in fields else 0, composites.OTHER)
    if kind == composites.SPARSE:
        return kind, 3
    state = [next(fields_of(each)) for each in _path(data, 2, 52, 1)] if kind == composites.RAGGED else []
    ranks = [each.value for each in state if each.number == 12]  # shape, type, ragged rank, type of the splits
    return kind, 1 + _zigzag(ranks[0]) if ranks else 0


def _zigzag(value: int) -> int:
    """A protocol buffer's sint64."""
    return value >> 1 ^ -(value & 1)


def _path(data: memoryview, *numbers: int) -> Iterator[memoryview]:
    """All messages that are reached through fields of these numbers."""
    if not numbers:
        yield data
        return
    for each in of(data, numbers[0]):
        yield from _path(each, *numbers[1:])


def _string(data: memoryview, number: int) -> str:
    return next((str(each, "utf-8") for each in of(data, number)), "")


def _tensors(data: memoryview, arguments: list[list[tuple[str, str]]], kinds: set[tuple[str, int]]) -> Tensors:
    method = _string(data, 3).rpartition("/")[2]
    inputs, outputs = _named(data, 1), _named(data, 2)
    specs = composites.marked([each.spec for each in inputs], arguments, kinds)
    served, left_out = composites.served([each.spec for each in outputs])
    with_default = {name for name, _ in map(entry, of(data, 4))}
    required = tuple(spec for spec in specs if spec.name not in with_default)
    optional = tuple(spec for spec in specs if spec.name in with_default)
    return Tensors(
        Signature(required, tuple(served), method if method in ("classify", "regress") else "", optional),
        {each.spec.name: each.tensor for each in inputs},
        {each.spec.name: each.tensor for each in outputs},
        composites.remarks(specs, left_out),
    )


def _named(data: memoryview, number: int) -> list[_Named]:
    """All tensors of a signature by name; ragged and sparse ones are represented by their parts."""
    entries = sorted(map(entry, of(data, number)), key=lambda entry: entry[0])
    return [part for name, info in entries for part in _parts(name, info)]


def _parts(name: str, info: memoryview) -> list[_Named]:
    fields = {field.number: field for field in fields_of(info)}
    if 1 in fields:
        return [_Named(_spec(name, fields), _string(info, 1))]
    if 4 in fields:
        whole, tensors = _spec(name, fields), [_string(fields[4].bytes, number) for number in _SPARSE_FIELDS]
        return list(map(_Named, composites.sparse_specs(name, whole.dtype, whole.shape), tensors))
    return _composite_parts(name, fields[5].bytes) if 5 in fields else []


def _composite_parts(name: str, data: memoryview) -> list[_Named]:
    parts = [{field.number: field for field in fields_of(info)} for info in of(data, 2)]
    kind = next((_type_spec(each)[0] for each in of(data, 1)), composites.OTHER)
    return [
        _Named(_spec(f"{name}/{part}", fields, composites.describe(part, name)), str(fields[1].bytes, "utf-8"))
        for part, fields in zip(composites.part_names(kind, len(parts)), parts, strict=True)
        if 1 in fields
    ]


def _spec(name: str, fields: dict[int, Field], part: str = "") -> TensorSpec:
    number = fields[2].value % 100
    return TensorSpec(
        name, _TYPES.get(number, f"type {number}"), _shape(fields[3].bytes) if 3 in fields else (), part=part
    )


def _shape(data: memoryview) -> Shape | None:
    fields = list(fields_of(data))
    if any(field.number == 3 and field.value for field in fields):
        return None
    sizes = [{size.number: size.value for size in fields_of(field.bytes)} for field in fields if field.number == 2]
    return tuple(_signed(size.get(1, 0)) for size in sizes)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value
