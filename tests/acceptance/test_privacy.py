"""What other local users, links and browsers can't get at, and that programs get JSON from the pages too."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.acceptance.conftest import Server


def test_the_data_folder_and_everything_that_the_server_writes_is_closed_to_others(
    server: Server, workspace: str
) -> None:
    job = server.run(workspace, "import os\nprint('printed')\nwith open('mine', 'w') as file: file.write('x')")
    assert job["state"] == "succeeded", job
    written = [path for path in server.data_dir.rglob("*") if path.name != "mine" and "programs" not in path.parts]
    open_to_others = [
        path
        for path in (server.data_dir, *written)  # without the script's `mine` and another test's `programs`
        if not path.is_symlink() and stat.S_IMODE(path.stat().st_mode) & 0o077
    ]
    assert open_to_others == []


def test_a_script_writes_with_the_umask_that_the_server_was_started_with(server: Server, workspace: str) -> None:
    mask = os.umask(0)
    os.umask(mask)
    job = server.run(workspace, "import os\nmask = os.umask(0)")
    assert job["variable"]["mask"] == mask


def test_a_model_with_a_link_that_leads_outside_is_refused(server: Server, workspace: str, tmp_path: Path) -> None:
    folder = server.roots / "linked"
    folder.mkdir(exist_ok=True)
    (folder / "m.xml").write_text('<?xml version="1.0"?>\n<net name="m" version="11"></net>')
    (tmp_path / "secret").write_bytes(b"secret")
    (folder / "m.bin").symlink_to(tmp_path / "secret")
    job = server.call("/deploy/", name=workspace, path=str(folder / "m.xml"), timeout=60)
    assert job["state"] == "failed"
    assert "outside the folders that this server may read" in job["error"]["message"]


@pytest.mark.parametrize(("method", "path", "status"), [
    ("GET", "/pages/nothing", 404), ("GET", "/pages/jobs/999999/", 404), ("POST", "/pages/jobs/1/", 405),
    ("DELETE", "/pages/events", 405),
])  # fmt: skip
def test_a_program_gets_errors_of_pages_in_json_and_a_browser_a_page(
    server: Server, method: str, path: str, status: int
) -> None:
    answer = server.http.request(method, path, headers={"Accept": "*/*"})
    assert (answer.status_code, answer.json()["request_result"]) == (status, False)
    page = server.http.request(method, path, headers={"Accept": "text/html,*/*;q=0.8"})
    assert (page.status_code, page.headers["content-type"].split(";")[0]) == (status, "text/html")


UNSEEN = "is not a valid workspace name. Expected 1 to 100 letters (of any script), digits, spaces"
AT_AN_EDGE = "is not a valid name for a new workspace. It must start with a letter, a digit or '_'"


@pytest.mark.parametrize(
    ("name", "words"), [(" ..", AT_AN_EDGE), (" a ", AT_AN_EDGE), ("-rf", AT_AN_EDGE), ("a\u202eb", UNSEEN)]
)
def test_a_name_that_misleads_is_refused(server: Server, name: str, words: str) -> None:
    status, sentence = server.refused("/create_workspace/", name=name)
    assert status == 400
    assert f"{name!r} {words}" in sentence
