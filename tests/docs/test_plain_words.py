"""Documents, comments, docstrings and messages are in plain English: without the words in tests/plain_words.py."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.plain_words import AVOIDED, Avoided, avoided

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    {
        *ROOT.glob("*.md"),
        *(path for folder in ("docs", "examples", "benchmarks", "tfserve") for path in (ROOT / folder).rglob("*.md")),
    }
)
SOURCES = sorted(path for path in (ROOT / "tfserve").rglob("*.py") if "_pb2" not in path.name)
FOLDER_NAMES = {"mask_pairs.py": "pictures", "tables.py": "picture"}
"""Names of folders and columns in other people's datasets."""
AVOIDED_NAMES = {"told", "tell", "tells", "wish", "wishes", "wanted"}
_CODE = re.compile(r"^```.*?^```|^ {4}.*?$|`[^`\n]+`", re.DOTALL | re.MULTILINE)
"""Fenced blocks, indented lines and inline code: names and messages of the program, not prose."""


def prose(markdown: str) -> str:
    """The text without code. Line numbers stay."""
    return _CODE.sub(lambda code: "\n" * code.group().count("\n"), markdown)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_document_has_no_avoided_word(path: Path) -> None:
    found = sorted(avoided(prose(path.read_text(encoding="utf-8"))))
    problems = [f"{path.relative_to(ROOT)}:{line}: {word!r} (use: {each.instead})" for line, word, each in found]
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("entry", AVOIDED, ids=lambda entry: entry.example)
def test_an_entry_finds_its_example(entry: Avoided) -> None:
    assert entry in [each for _, _, each in avoided(entry.example)]


def test_code_is_not_prose() -> None:
    text = "a `told` b\n```\ntold\n```\n    told\nIt was told."
    assert [(line, word) for line, word, _ in avoided(prose(text))] == [(6, "told")]


def test_a_phrase_is_found_across_a_line_break() -> None:
    assert [(line, word) for line, word, _ in avoided("- one\n  that they ask\n  for")] == [(2, "ask\nfor")]


def test_the_documents_are_found() -> None:
    names = {str(path.relative_to(ROOT)) for path in DOCUMENTS}
    assert {"README.md", "CHANGELOG.md", "docs/reference/training.md", "tfserve/training/export/web/README.md"} <= names


def sentences(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of each comment, docstring and message in Python code."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, node.value


def names(source: str) -> Iterator[tuple[int, str]]:
    """Line and name of whatever a module gives a name to."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr


def test_the_code_has_no_avoided_word() -> None:
    problems = [
        f"{path.relative_to(ROOT)}:{line}: {word!r} (use: {each.instead}) in {text.strip()[:80]!r}"
        for path in SOURCES
        for line, text in sentences(path.read_text(encoding="utf-8"))
        for _, word, each in avoided(text)
        if word != FOLDER_NAMES.get(path.name)
    ]
    assert not problems, "\n".join(problems)


def test_the_code_has_no_avoided_name() -> None:
    problems = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in SOURCES
        for line, name in names(path.read_text(encoding="utf-8"))
        if AVOIDED_NAMES & set(name.lower().split("_"))
    ]
    assert not problems, "\n".join(problems)


def test_sentences_and_names_are_found() -> None:
    source = "# it is told\nx = 'Told so.'\ndef tell(told):\n    self.wish = f'is {x} told'\n"
    assert [line for line, text in sentences(source) if list(avoided(text))] == [1, 2, 4]
    assert {name for _, name in names(source)} == {"x", "tell", "told", "wish"}
