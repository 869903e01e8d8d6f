"""The variables of a workspace as a table: their types as the worker reported them, and their values as JSON."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import msgspec

SHOWN_CHARS = 120
OBJECTS = ("module", "function", "class", "built-in function")
OBJECT = re.compile(r"<(module|function|class|built-in function)\b.*>", re.DOTALL)
"""The text of an object that has no JSON form."""


@dataclass(frozen=True)
class VariableRow:
    """One variable. `shape` is that of an array or a frame, or the length of a list or text."""

    name: str
    type: str
    shape: str
    excerpt: str


def variable_rows(snapshot: str, types: str = "{}") -> list[VariableRow]:
    """The variables of a snapshot by name; modules, functions and classes are the last ones.

    A variable without an entry in `types` has the type of its JSON form.
    """
    variables: dict[str, Any] = msgspec.json.decode(snapshot)
    known: dict[str, dict[str, Any]] = msgspec.json.decode(types)
    rows = [_row(name, value, known.get(name)) for name, value in variables.items()]
    return sorted(rows, key=lambda row: (row.type in OBJECTS, row.name.casefold()))


def _row(name: str, value: Any, facts: dict[str, Any] | None) -> VariableRow:
    if facts is None:
        return _from_json(name, value)
    is_summary = isinstance(value, dict) and value.get("summary") is True and value.get("type") == facts["type"]
    excerpt = _summarised(name, value).excerpt if is_summary else _excerpt(value)
    object_type = _object_type(value) if facts["type"] != "str" else ""
    return VariableRow(name, object_type or _type(facts), _size(facts), excerpt)


def _type(facts: dict[str, Any]) -> str:
    name = "None" if facts["type"] == "NoneType" else facts["type"]
    dtype = facts.get("dtype")
    return name if dtype in (None, name) else f"{name} {dtype}"


def _size(facts: dict[str, Any]) -> str:
    return " × ".join(map(str, facts.get("shape") or [])) or ("" if "shape" in facts else str(facts.get("length", "")))


def _from_json(name: str, value: Any) -> VariableRow:
    if isinstance(value, dict) and value.get("summary") is True:
        return _summarised(name, value)
    if object_type := _object_type(value):
        return VariableRow(name, object_type, "", _excerpt(value))
    shape = _shape(value)
    size = len(value) if isinstance(value, (str, list, dict)) else None
    described = " × ".join(map(str, shape)) if len(shape) > 1 else "" if size is None else str(size)
    return VariableRow(name, _type_name(value), described, _excerpt(value))


def _summarised(name: str, facts: dict[str, Any]) -> VariableRow:
    shape = " × ".join(map(str, facts.get("shape") or [])) or str(facts.get("length", ""))
    type_name = " ".join(str(facts[each]) for each in ("type", "dtype") if each in facts)
    values = f"{str(facts['values'])[:SHOWN_CHARS]} …" if "values" in facts else "too large to show"
    return VariableRow(name, type_name, shape, values)


def _object_type(value: Any) -> str:
    found = OBJECT.fullmatch(value) if isinstance(value, str) else None
    return "" if found is None else found.group(1)


def _type_name(value: Any) -> str:
    return "None" if value is None else type(value).__name__


def _shape(value: Any) -> list[int]:
    """The lengths of nested lists, as far as all lists of a level have the same length."""
    shape: list[int] = []
    level = [value]
    while level and all(isinstance(each, list) for each in level):
        lengths = {len(each) for each in level}
        if len(lengths) != 1:
            break
        shape.append(lengths.pop())
        level = [inner for each in level for inner in each]
    return shape


def _excerpt(value: Any) -> str:
    text = value if isinstance(value, str) else "" if value is None else msgspec.json.encode(value).decode()
    return text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}…"
