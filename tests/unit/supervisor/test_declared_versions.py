"""Which versions of a declared model are served, and by which workspace."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tfserve.errors import Invalid
from tfserve.ipc.messages import DeclaredModel, NewestVersions
from tfserve.supervisor.declared.attempts import VersionVerdict
from tfserve.supervisor.declared.selection import select, targets
from tfserve.supervisor.declared.version_folders import VersionFolders, find, fingerprint, folders_above


def chosen(declared: DeclaredModel, versions: list[int], broken: tuple[int, ...] = ()) -> list[int | None] | None:
    """The selected versions, in the order of preference."""

    async def judge(version: int | None, _: Path) -> VersionVerdict:
        return VersionVerdict.LEAVE if version in broken else VersionVerdict.LOAD

    found = VersionFolders({version: Path(f"/m/{version}") for version in versions})
    selected = asyncio.run(select(declared, found, judge))
    return None if selected is None else list(selected)


@pytest.mark.parametrize(
    ("fields", "broken", "expected"),
    [
        ({}, (), [7]),
        ({}, (7,), [5]),
        ({"versions": NewestVersions(latest=2)}, (7,), [5, 3]),
        ({"versions": "all"}, (5,), [7, 3]),
        ({"versions": [3, 5]}, (), [5, 3]),
        ({"versions": [3, 5]}, (5,), [3]),
        ({"labels": {"stable": 3}}, (), [3]),
        ({"labels": {"stable": 3}, "versions": "latest"}, (), [7, 3]),
        ({"labels": {"canary": 7}, "versions": "latest"}, (), [7]),
        ({}, (3, 5, 7), []),
    ],
)
def test_versions_are_selected(fields: dict[str, Any], broken: tuple[int, ...], expected: list[int]) -> None:
    assert chosen(DeclaredModel(path="/m", **fields), [3, 5, 7], broken) == expected


def test_the_default_version_is_served_by_the_workspace_of_the_model() -> None:
    selected = {5: Path("/m/5"), 3: Path("/m/3")}
    for fields, expected in (
        ({}, {"m@3": 3, "m": 5}),
        ({"labels": {"stable": 3, "canary": 5}, "default": "stable"}, {"m@5": 5, "m": 3}),
        ({"versions": [3, 5, 7], "default": 7}, {"m@5": 5, "m@3": 3}),
    ):
        found = targets("m", DeclaredModel(path="/m", **fields), selected)
        assert {each.workspace: each.version for each in found} == expected


def test_versions_are_found_by_the_names_of_folders(tmp_path: Path) -> None:
    for name in ("5", "05", "7", "seven", "-3", "1" * 30):
        (tmp_path / "m" / name).mkdir(parents=True)
    (tmp_path / "m" / "9").write_text("a file")
    declared = DeclaredModel(path=str(tmp_path / "m"))
    assert find(declared, [tmp_path]).versions == {5: tmp_path / "m" / "5", 7: tmp_path / "m" / "7"}
    (tmp_path / "m" / "saved_model.pb").write_text("")
    assert find(declared, [tmp_path]).versions == {None: tmp_path / "m"}
    with pytest.raises(Invalid, match="it does not exist"):
        find(DeclaredModel(path=str(tmp_path / "none"), versions="latest"), [tmp_path])


def test_a_fingerprint_changes_with_the_files(tmp_path: Path) -> None:
    folder = tmp_path / "5"
    (folder / "variables").mkdir(parents=True)
    states = [fingerprint(folder)]
    for change in (
        lambda: (folder / "variables" / "data").write_text("a"),
        lambda: (folder / "variables" / "data").write_text("ab"),
        lambda: (folder / "variables" / "data").rename(folder / "variables" / "index"),
    ):
        change()
        states.append(fingerprint(folder))
        assert fingerprint(folder) == states[-1]
    assert len({state.key for state in states}) == len(states)


def test_the_folders_of_links_are_watched(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "models.toml").symlink_to(tmp_path / "b" / "link")
    (tmp_path / "b" / "link").symlink_to("../c/models.toml")
    (tmp_path / "d").symlink_to("a")
    found = {folder.resolve() for folder in folders_above(tmp_path / "d" / "models.toml")}
    assert found == {tmp_path / "a", tmp_path / "b", tmp_path}
