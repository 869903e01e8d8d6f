"""The table of settings has what config.py has."""

from __future__ import annotations

import dataclasses

from tests.docs_samples import generated
from tfserve.config import Settings, environment_name


def test_every_setting_is_in_the_table_with_its_default_and_meaning() -> None:
    rows = {line.split("|")[1].strip(): line for line in generated("settings").splitlines() if line.startswith("| `")}
    for field in dataclasses.fields(Settings):
        option = f"`--{field.name.replace('_', '-')}`" if field.metadata["flag"] else "–"
        default = "empty" if field.default == "" else f"`{field.default}`"
        expected = f"| `{environment_name(field.name)}` | {option} | {default} | {field.metadata['help']} |"
        assert rows.get(f"`{environment_name(field.name)}`") == expected
    assert len(rows) == len(dataclasses.fields(Settings))
