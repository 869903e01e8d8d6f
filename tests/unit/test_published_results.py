"""Who may read what a training leaves."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tfserve.training import atomic_files


@pytest.fixture
def private_umask() -> Iterator[None]:
    """As in the server's processes."""
    before = os.umask(0o077)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.usefixtures("private_umask")
def test_a_result_has_the_permissions_of_the_user_who_started_the_server_and_is_private_before(tmp_path: Path) -> None:
    folder = tmp_path / "zip project" / "models" / "t1"
    atomic_files.make_folder(folder.parent, 0o027)
    aside = atomic_files.aside_of(folder)
    (aside / "plots").mkdir(parents=True)
    (aside / "plots" / "curves.png").write_bytes(b"x")
    (aside / "link").symlink_to("plots")
    assert mode(aside) == mode(aside / "plots") == 0o700
    atomic_files.publish(aside, folder, 0o027)
    assert mode(folder.parent) == mode(folder.parent.parent) == mode(folder) == mode(folder / "plots") == 0o750
    assert mode(folder / "plots" / "curves.png") == 0o640
    assert (folder.parent / "latest").resolve() == folder


@pytest.mark.usefixtures("private_umask")
def test_folders_that_a_user_has_made_stay_as_they_are(tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    atomic_files.make_folder(models, 0o022)
    assert mode(models) == 0o700
