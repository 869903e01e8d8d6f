"""Ragged and sparse tensors in signatures: callers send and receive the dense tensors that they consist of.

    ragged    values, row_splits (row_splits_1 … for further ragged dimensions, from the outer to the inner)
    sparse    indices, values, dense_shape

A signature that names such a tensor as a whole gets one input `name/part` for each. One whose function was saved with
it split up already (`ids`, `ids_1`: every signature that TensorFlow 2 writes) keeps its names, since clients use them;
the specs then state which part each one is. Only dense outputs are served, if the model has any.

Nothing of TensorFlow is imported here: both readers of signatures use this.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import msgspec

from tfserve.tensors.dtypes import DTYPES
from tfserve.tensors.specs import Shape, TensorSpec

RAGGED, SPARSE, OTHER = "ragged", "sparse", "composite"
SPARSE_PARTS = ("indices", "values", "dense_shape")

_SPLITS = ("int32", "int64")


def part_names(kind: str, count: int) -> tuple[str, ...]:
    """What the parts are called, in TensorFlow's order."""
    if kind == SPARSE:
        return SPARSE_PARTS
    if kind == RAGGED:
        return ("values", *("row_splits" if not n else f"row_splits_{n}" for n in range(count - 1)))
    return tuple(f"part_{n}" for n in range(count))


def sparse_specs(name: str, dtype: str, shape: Shape | None) -> tuple[TensorSpec, ...]:
    """The specs of a sparse tensor's parts."""
    rank = -1 if shape is None else len(shape)
    shapes = {"indices": ("int64", (-1, rank)), "values": (dtype, (-1,)), "dense_shape": ("int64", (rank,))}
    return tuple(TensorSpec(f"{name}/{part}", *shapes[part], part=describe(part, name)) for part in SPARSE_PARTS)


def describe(part: str, name: str) -> str:
    return f"{part} of {name!r}"


def marked(
    specs: Sequence[TensorSpec], arguments: Iterable[Sequence[tuple[str, str]]], kinds: set[tuple[str, int]]
) -> tuple[TensorSpec, ...]:
    """The inputs, with those marked that are parts of a ragged or sparse argument.

    `arguments` has for each function of the model its arguments, with the name that the user gave; parts of one
    argument share it. `kinds` are the sorts of arguments that the functions take, with the number of their parts.
    """
    by_name = {spec.name: spec for spec in specs}
    found: dict[str, str] = {}
    for function in arguments if kinds else ():
        for name, parts in _groups(function).items():
            inputs = [by_name.get(each) for each in parts]
            group = [each for each in inputs if each is not None]
            if len(group) == len(parts) and (kind := _kind(group)) and (kind, len(parts)) in kinds:
                names = part_names(kind, len(parts))
                found |= {spec.name: describe(part, name) for spec, part in zip(group, names, strict=True)}
    return tuple(msgspec.structs.replace(spec, part=found.get(spec.name, spec.part)) for spec in specs)


def served(outputs: Sequence[TensorSpec]) -> tuple[list[TensorSpec], list[TensorSpec]]:
    """The outputs that responses have, and those left out: all that are not dense, or of a type that no protocol has.

    A signature that has only such outputs keeps them: ragged and sparse ones are returned in parts.
    """
    plain = [spec for spec in outputs if not spec.part and spec.dtype in DTYPES]
    kept = plain or [spec for spec in outputs if spec.dtype in DTYPES] or list(outputs)
    return kept, [spec for spec in outputs if spec not in kept]


def remarks(inputs: Sequence[TensorSpec], left_out: Sequence[TensorSpec]) -> list[str]:
    """Remarks for users: how to send such inputs, and which outputs are not available."""
    found = [
        f"input {name} is {_kind_of(parts)}: send {', '.join(f'its {part} as {own!r}' for part, own in parts.items())},"
        " in column format"
        for name, parts in _by_whole(inputs).items()
    ]
    found += [f"output {name} is {_kind_of(parts)} and left out" for name, parts in _by_whole(left_out).items()]
    found += [
        f"output {spec.name!r} is {spec.dtype} and left out: only /predict/ returns it, as text"
        for spec in left_out
        if not spec.part
    ]
    return found + [
        f"input {spec.name!r} is {spec.dtype}, which requests can't contain: its signature can't be called"
        for spec in inputs
        if spec.dtype not in DTYPES
    ]


def _by_whole(specs: Sequence[TensorSpec]) -> dict[str, dict[str, str]]:
    """For each ragged or sparse tensor, quoted, the names of its parts."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for spec in specs:
        if spec.part:
            part, _, whole = spec.part.partition(" of ")
            found[whole][part] = spec.name
    return found


def _kind_of(parts: Iterable[str]) -> str:
    return SPARSE if "dense_shape" in parts else RAGGED if "row_splits" in parts else OTHER


def _groups(function: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    """The arguments of a function that share the name that their user gave, two or more."""
    groups: dict[str, list[str]] = defaultdict(list)
    for argument, given in function:
        groups[given].append(argument)
    return {given: arguments for given, arguments in groups.items() if given and len(arguments) > 1}


def _kind(group: Sequence[TensorSpec]) -> str | None:
    """The kind of tensor that the types and shapes of the parts match."""
    if len(group) == 3 and all(spec.dtype == "int64" for spec in (group[0], group[2])):
        ranks = [None if spec.shape is None else len(spec.shape) for spec in group]
        if ranks == [2, 1, 1]:
            return SPARSE
    is_splits = all(spec.dtype in _SPLITS and spec.shape is not None and len(spec.shape) == 1 for spec in group[1:])
    return RAGGED if is_splits else None
