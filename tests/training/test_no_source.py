"""Trainings run from what is loaded: an update of the package in place does not change or stop them."""

from __future__ import annotations

import ast
from pathlib import Path

import tfserve.training

FOLDER = Path(tfserve.training.__file__).parent


def _calls(tree: ast.AST) -> list[ast.Call]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "tf.function"]


def test_functions_are_traced_without_the_lines_of_their_source() -> None:
    """AutoGraph finds a function in its file by the number of its line, which an update in place has changed."""
    calls = [(path, call) for path in sorted(FOLDER.rglob("*.py")) for call in _calls(ast.parse(path.read_text()))]
    assert len(calls) >= 9
    with_source = [
        f"{path.name}:{call.lineno}"
        for path, call in calls
        if ("autograph", "False") not in [(each.arg, ast.unparse(each.value)) for each in call.keywords]
    ]
    assert with_source == []
