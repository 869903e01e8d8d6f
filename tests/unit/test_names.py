"""What a new workspace may be called, and that older names stay reachable."""

from __future__ import annotations

import pytest

from tfserve.errors import Invalid
from tfserve.protocols.tfserve.names import new_workspace_name, workspace_name

MISLEADING = [
    " ..", " a ", "a ", " a", "-rf", "--help", "-", "..", ". .", " .", ".hidden", "   ", "",
    "a\tb", "a\nb", "a\x00b", "a\u202eb", "a\u200bb", "a\u2066b", "\ufeffa", "a\u00a0b", "a/b", "a\\b",
    "\u3164", "a\ufe0f", "\u034fa", "\u0301", "a\U000e0101", "\x7f", "a" * 101,
]  # fmt: skip


@pytest.mark.parametrize("name", MISLEADING)
def test_names_that_mislead_can_not_be_created(name: str) -> None:
    with pytest.raises(Invalid):
        new_workspace_name(name)


@pytest.mark.parametrize("name", ["a", "größe", "my model v1.2", "_x", "日本語", "हिन्दी", "a-b", "7", "a" * 100, "a.."])
def test_ordinary_names_of_any_script_can_be_created(name: str) -> None:
    assert new_workspace_name(name) == name


@pytest.mark.parametrize("name", [" a ", "-rf", "a "])
def test_a_workspace_that_an_earlier_version_has_made_is_still_found_by_its_name(name: str) -> None:
    assert workspace_name(name) == name
