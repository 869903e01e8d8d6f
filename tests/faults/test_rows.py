"""Every row of the fault suite names tests that exist."""

from __future__ import annotations

import ast
import functools

from faults.rows import SECTIONS, TESTS, load


@functools.cache
def functions(file: str) -> set[str]:
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_test_of_a_row_exists() -> None:
    named = [test.partition("::") for row in load() for test in row.tests]
    assert len(named) > 150
    assert [f"{file}::{name}" for file, _, name in named if name not in functions(file)] == []


def test_every_row_says_what_is_expected_and_has_a_test() -> None:
    rows = load()
    assert {row.section for row in rows} == set(SECTIONS.values())
    assert len({row.fault for row in rows}) == len(rows)
    assert all(row.expected and row.tests for row in rows)


def test_rows_are_chosen_by_words() -> None:
    assert {row.section for row in load("tensors")} >= {"Tensors"}
    assert load("no such words") == []
