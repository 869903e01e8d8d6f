"""docs/settings.md says what config.py says."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tfserve.config import Settings, environment_name

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def test_every_setting_stands_in_the_table_with_its_default_and_meaning() -> None:
    rows = {line.split("|")[1].strip(): line for line in PAGE.read_text().splitlines() if line.startswith("| `")}
    for field in dataclasses.fields(Settings):
        option = f"`--{field.name.replace('_', '-')}`" if field.metadata["flag"] else "–"
        expected = f"| `{environment_name(field.name)}` | {option} | `{field.default!r}` | {field.metadata['help']} |"
        assert rows.get(f"`{environment_name(field.name)}`") == expected
    assert len(rows) == len(dataclasses.fields(Settings))
