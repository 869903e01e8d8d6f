"""Reads the models file: TOML into checked declarations, or all problems that it has.

The file is checked as a whole: declarations with one problem are not applied at all.
"""

from __future__ import annotations

import json
import os
import re
import stat
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from tfserve.errors import Invalid, TFserveError, nearest
from tfserve.ipc.messages import Declarations, DeclaredModel, DeclaredWorkspace, Problem
from tfserve.supervisor.declared.checks import check_model, check_name
from tfserve.supervisor.declared.toml_lines import Lines

MAX_BYTES = 256 * 1024
"""About 2000 models."""
MAX_PROBLEMS = 20
MAX_KEY_PARTS = 32
"""The memory that Python's parser needs grows with the square of this number."""
TABLES = ("workspaces", "models")

_POSITION = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")
_DEEP_KEY = re.compile(rf"""(?:\.\s*["']?[\w-]+["']?\s*){{{MAX_KEY_PARTS}}}""")
_AT_FIELD = re.compile(r" - at `(?:key in )?\$\.?(.*)`$")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`$")

T = TypeVar("T", bound=msgspec.Struct)


class ProblemsInFile(Invalid):
    """{count} problem{plural} in {path}: {first}"""

    def __init__(self, path: Path, problems: Sequence[Problem]) -> None:
        self.problems = list(problems[:MAX_PROBLEMS])
        count = len(problems)
        super().__init__(path=str(path), count=count, plural="s" if count > 1 else "", first=str(problems[0]))


def read(path: Path, roots: Sequence[Path]) -> Declarations:
    """The declarations in a file, with absolute paths. Raises `ProblemsInFile`."""
    try:
        text = _text(path)
        document = _document(text)
    except _OneProblem as error:
        raise ProblemsInFile(path, [error.problem]) from None
    reader = _Reader(Lines(text), path.parent.absolute(), roots)
    found = reader.declarations(document)
    if reader.problems:
        raise ProblemsInFile(path, sorted(reader.problems, key=lambda each: each.line or 0))
    return found


class _OneProblem(Exception):
    """The file can't be read any further."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.problem = Problem(message, line=line)


def _text(path: Path) -> str:
    try:
        content = _bytes(path)
    except OSError as error:
        raise _OneProblem(f"the file can't be read: {error.strerror}") from None
    if not content.strip():
        raise _OneProblem("the file is empty. If nothing is to be declared, write: [models]")
    if len(content) > MAX_BYTES:
        raise _OneProblem(f"the file is too large: expected at most {MAX_BYTES} bytes")
    try:
        return content.removeprefix(b"\xef\xbb\xbf").decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _OneProblem("the file must be in UTF-8; this line has other bytes", line) from None


def _bytes(path: Path) -> bytes:
    """At most one byte more than is allowed. A pipe or a device does not block."""
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(file, "rb") as opened:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise _OneProblem("it is not a regular file")
        return opened.read(MAX_BYTES + 1)


def _document(text: str) -> dict[str, Any]:
    if deep := _DEEP_KEY.search(text):
        line = text.count("\n", 0, deep.start()) + 1
        raise _OneProblem(f"a key has more than {MAX_KEY_PARTS} parts", line)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        position = _POSITION.search(message)
        line = int(position[1]) if position and position[1] else len(text.splitlines()) or 1
        raise _OneProblem(f"not valid TOML: {_POSITION.sub('', message)}", line) from None
    except (RecursionError, ValueError) as error:  # nested too deeply; a number that is too long
        raise _OneProblem(f"not valid TOML: {error}") from None


@dataclass
class _Reader:
    """Converts the tables of one document, and collects what is wrong with them."""

    lines: Lines
    start: Path
    roots: Sequence[Path]

    def __post_init__(self) -> None:
        self.problems: list[Problem] = []

    def declarations(self, document: Mapping[str, Any]) -> Declarations:
        for name in document:
            if name not in TABLES:
                self._report(f"unknown table{nearest(name, TABLES)}. The tables are: {', '.join(TABLES)}", (name,))
        return Declarations(
            workspaces=self._tables(document, "workspaces", DeclaredWorkspace, lambda _, each: each),
            models=self._tables(document, "models", DeclaredModel, self._checked_model),
        )

    def _tables(
        self, document: Mapping[str, Any], which: str, type_: type[T], check: Callable[[tuple[str, ...], T], T]
    ) -> dict[str, T]:
        tables = document.get(which, {})
        if not isinstance(tables, dict):
            self._report(f"expected tables such as [{which}.name], got {_type(tables)}", (which,))
            return {}
        found: dict[str, T] = {}
        for name, table in tables.items():
            key = (which, name)
            try:
                normal = check_name(name)
                if normal in found:
                    raise Invalid(f"the name {name!r} is used twice, in two spellings of the same characters")
                found[normal] = check(key, msgspec.convert(table, type_))
            except msgspec.ValidationError as error:
                self._report_invalid(str(error), key, type_, table)
            except TFserveError as error:
                self._report(error.message, (*key, *filter(None, [error.detail.get("field")])))
        return found

    def _checked_model(self, _: tuple[str, ...], model: DeclaredModel) -> DeclaredModel:
        return check_model(model, start=self.start, roots=self.roots)

    def _report_invalid(self, message: str, key: tuple[str, ...], type_: type[msgspec.Struct], table: object) -> None:
        """Reports what msgspec found wrong with a table."""
        at = _AT_FIELD.search(message)
        message = _AT_FIELD.sub("", message)
        inner = tuple(part for part in re.split(r"\.|\[.*?\]", at[1]) if part) if at else ()
        given = table.get(inner[0]) if inner and isinstance(table, dict) else None
        if unknown := _UNKNOWN.search(message):
            known = _keys(type_, inner)
            inner = (*inner, unknown[1])
            message = f"unknown key{nearest(unknown[1], known)}" + (
                f". The keys are: {', '.join(known)}" if known else ""
            )
        elif message.startswith("Invalid enum value"):
            message = f"expected {_choices(type_, inner[0])}, got {_short(repr(given))}"
        elif given is not None and len(inner) == 1:
            message = f"{message}. It is {_short(repr(given))}"
        self._report(message[:1].lower() + message[1:], (*key, *inner))

    def _report(self, message: str, key: tuple[str, ...]) -> None:
        self.problems.append(Problem(message, ".".join(map(_short, key)), self.lines.of(key)))


def _keys(type_: type[msgspec.Struct], path: Sequence[str]) -> tuple[str, ...]:
    """The keys of the table at a path inside a table of this type; none if it takes any."""
    schema = msgspec.json.schema(type_)
    found = schema["$defs"][type_.__name__]
    for name in path:
        options = found.get("properties", {}).get(name, {})
        references = [each["$ref"] for each in (options, *options.get("anyOf", ())) if "$ref" in each]
        found = schema["$defs"][references[0].rpartition("/")[2]] if references else {}
    return tuple(found.get("properties", ()))


def _choices(type_: type[msgspec.Struct], field: str) -> str:
    """The values that a field of a table takes, as text."""
    schema = msgspec.json.schema(type_)["$defs"][type_.__name__]["properties"][field]
    options = [schema, *schema.get("anyOf", ())]
    values = [json.dumps(value) for each in options for value in each.get("enum", ())]
    return f"one of {', '.join(values)}" + (" or another form" if "anyOf" in schema else "")


def _short(part: str) -> str:
    return part if len(part) <= 100 else f"{part[:100]}…"


def _type(value: object) -> str:
    names = {str: "a string", bool: "a boolean", int: "a number", float: "a number", list: "an array"}
    return names.get(type(value), type(value).__name__)
