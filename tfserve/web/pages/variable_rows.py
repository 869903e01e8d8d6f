"""The variables of a workspace as a table. They come as JSON, so types are those of their JSON form."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import msgspec

SHOWN_CHARS = 120
OBJECT = re.compile(r"<(module|function|class|built-in function)\b.*>", re.DOTALL)
"""The text of an object that has no JSON form."""


@dataclass(frozen=True)
class VariableRow:
    """One variable. `shape` is that of an array, or the length of a list or text."""

    name: str
    type: str
    shape: str
    excerpt: str


def variable_rows(snapshot: str) -> list[VariableRow]:
    """The variables of a snapshot by name; modules, functions and classes are the last ones."""
    variables: dict[str, Any] = msgspec.json.decode(snapshot)
    names = sorted(variables, key=lambda name: (_object_type(variables[name]) != "", name.casefold()))
    return [_row(name, variables[name]) for name in names]


def _row(name: str, value: Any) -> VariableRow:
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
