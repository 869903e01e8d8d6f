"""Which columns of a CSV file go to which inputs of a model, and their cells as values of the right type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tfserve import written_numbers
from tfserve.errors import Invalid, nearest
from tfserve.tensors.dtypes import DTYPES
from tfserve.tensors.specs import Signature, TensorSpec

MIN_INT, MAX_INT = -(2**63), 2**64 - 1
"""What any integer type holds. Other numbers can't be written as JSON either."""
TRUE, FALSE = ("true", "1", "yes"), ("false", "0", "no")


class _Input(NamedTuple):
    """One input of the model, with the numbers of its columns. A scalar has one column."""

    spec: TensorSpec
    numbers: list[int]
    is_scalar: bool


class Columns:
    """The columns of one file for one signature."""

    def __init__(
        self,
        header: Sequence[str],
        signature: Signature,
        given: list[str] | dict[str, str | list[str]] | None,
    ) -> None:
        """Raises `Invalid` if the columns do not fit the inputs."""
        self._header = header
        self._inputs = [self._input(spec, names) for spec, names in _assigned(header, signature, given)]

    def instance(self, cells: Sequence[str]) -> dict[str, Any]:
        """The element of `instances` for a line. Raises `Invalid` for a cell that can't be read."""
        if len(cells) != len(self._header):
            raise Invalid(f"The line has {len(cells)} cells, but the header has {len(self._header)}.")
        instance: dict[str, Any] = {}
        for spec, numbers, is_scalar in self._inputs:
            values = [_value(cells[number].strip(), spec.dtype, self._header[number]) for number in numbers]
            instance[spec.name] = values[0] if is_scalar else values
        return instance

    def _input(self, spec: TensorSpec, names: str | list[str]) -> _Input:
        listed = [names] if isinstance(names, str) else names
        for name in listed:
            if name not in self._header:
                known = ", ".join(self._header[:20])
                raise Invalid(f"columns: {name!r} is not in the header{nearest(name, self._header)}. It has: {known}.")
        rank = len(spec.shape) - 1 if spec.shape else None
        if rank is not None and rank > 1:
            raise Invalid(
                f"Input {spec.name!r} takes {spec}, which cells of a CSV file can't hold. Use JSON lines instead."
            )
        size = spec.shape[1] if spec.shape is not None and rank == 1 else -1
        if size not in (-1, len(listed)) or (rank == 0 and len(listed) != 1):
            expected = 1 if rank == 0 else size
            raise Invalid(f"Input {spec.name!r} takes {expected} values per row, but has {len(listed)} columns.")
        is_scalar = rank == 0 or (rank is None and isinstance(names, str))
        return _Input(spec, [self._header.index(name) for name in listed], is_scalar)


def _assigned(
    header: Sequence[str], signature: Signature, given: list[str] | Mapping[str, str | list[str]] | None
) -> list[tuple[TensorSpec, str | list[str]]]:
    """Each input with its columns: those that were given, those of the same name, or all for an only input.

    Optional inputs that have rows can have columns too.
    """
    specs = {spec.name: spec for spec in signature.takes if _has_rows(spec, signature)}
    required = signature.input_names
    if isinstance(given, Mapping):
        for name in given:
            if name not in specs:
                known = ", ".join(specs)
                raise Invalid(f"columns: the model has no input {name!r}{nearest(name, specs)}. It has: {known}.")
        if missing := [name for name in required if name not in given]:
            raise Invalid(f"columns: no columns are given for the input {missing[0]!r}.")
        return [(specs[name], columns) for name, columns in given.items()]
    found: list[tuple[TensorSpec, str | list[str]]] = [(spec, name) for name, spec in specs.items() if name in header]
    if given is None and found and all(name in header for name in required):
        return found
    if len(required) == 1 and given is None:
        rest = [name for name in header if name not in specs]
        return [(specs[required[0]], rest), *found]
    if len(required) == 1 and given is not None:
        return [(specs[required[0]], given)]
    raise Invalid(
        f"The model has the inputs {', '.join(specs)}, and the header has {', '.join(header[:20])}. Give columns, an"
        " object of an input's name and its columns."
    )


def _has_rows(spec: TensorSpec, signature: Signature) -> bool:
    """Whether a column can set it. An optional input may take one value for all rows, which no column has."""
    return spec in signature.inputs or spec.is_batched or spec.shape is None


def _value(cell: str, dtype: str, column: str) -> Any:
    if dtype == "string":
        return cell
    try:
        return _number(cell, DTYPES[dtype].kind if dtype in DTYPES else "float")
    except ValueError:
        given = repr(cell[:40]) if cell else "an empty cell"
        raise Invalid(f"Column {column!r} must be {dtype}, got {given}.") from None


def _number(cell: str, kind: str) -> bool | int | float:
    """Raises `ValueError`."""
    if kind == "bool":
        if cell.lower() in TRUE or cell.lower() in FALSE:
            return cell.lower() in TRUE
        raise ValueError
    number = written_numbers.integer(cell) if kind == "int" else written_numbers.finite(cell)
    if number is None or (kind == "int" and not MIN_INT <= number <= MAX_INT):
        raise ValueError
    return number
