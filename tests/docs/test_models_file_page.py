"""The reference of the models file has every key that the program reads."""

from __future__ import annotations

import re

from tests.acceptance.conftest import REPOSITORY
from tfserve.ipc.messages import MAX_SERVED_VERSIONS, DeclaredModel, DeclaredWorkspace
from tfserve.supervisor.declared.models_file import MAX_BYTES


def test_every_key_is_in_the_tables() -> None:
    page = (REPOSITORY / "docs/reference/models-file.md").read_text()
    models, workspaces = page.partition("## `[workspaces.")[::2]
    for section, type_ in ((models, DeclaredModel), (workspaces.partition("## Where")[0], DeclaredWorkspace)):
        rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
        assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set(type_.__struct_encode_fields__)
    assert f"at most {MAX_SERVED_VERSIONS} at a time" in page
    assert f"{MAX_BYTES // 1024} KiB" in page
