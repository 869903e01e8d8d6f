"""The documents are written in plain English: without the words in tests/plain_words.py."""

from __future__ import annotations

import re
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
