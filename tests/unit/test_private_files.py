"""The data folder is closed to other users, also one that an earlier version left open."""

from __future__ import annotations

import stat
from pathlib import Path

from tfserve.supervisor.private_files import make_private


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_data_folder_is_0700(tmp_path: Path) -> None:
    make_private(tmp_path / "new" / "data")
    assert mode(tmp_path / "new" / "data") == 0o700


def test_an_open_folder_is_closed_with_everything_in_it_and_links_are_left_alone(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("")
    outside.chmod(0o644)
    data = tmp_path / "data"
    (data / "workspaces").mkdir(parents=True)
    (data / "tfserve.sqlite3").write_text("")
    (data / "workspaces" / "run.sh").write_text("")
    (data / "workspaces" / "run.sh").chmod(0o755)
    (data / "link").symlink_to(outside)
    for path in (data, data / "workspaces"):
        path.chmod(0o755)
    make_private(data)
    assert [mode(data), mode(data / "workspaces")] == [0o700, 0o700]
    assert [mode(data / "tfserve.sqlite3"), mode(data / "workspaces" / "run.sh")] == [0o600, 0o700]
    assert mode(outside) == 0o644


def test_a_database_that_another_program_has_put_into_a_closed_folder_is_closed(tmp_path: Path) -> None:
    make_private(tmp_path / "data")
    (tmp_path / "data" / "tfserve.sqlite3").write_text("")
    (tmp_path / "data" / "tfserve.sqlite3").chmod(0o644)
    make_private(tmp_path / "data")
    assert mode(tmp_path / "data" / "tfserve.sqlite3") == 0o600


def test_a_folder_that_all_users_share_is_not_closed(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    make_private(tmp_path)
    assert mode(tmp_path) == 0o1777
