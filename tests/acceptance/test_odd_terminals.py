"""Commands whose output goes to a program, a file, a full disk or a terminal without Unicode."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.conftest import REPOSITORY, Server
from tests.protocols import echo
from tfserve.cli.display import Bar

COMMAND = f"{sys.executable} -m tfserve.cli"
NAME = "日本 café"


def shell(server: Server, line: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a line of bash, in which `tfserve` is the command, for the shared server."""
    code = os.pathsep.join(map(str, (REPOSITORY, REPOSITORY / "clients" / "python")))
    given = {**os.environ, "TFSERVE_URL": server.url, "PYTHONPATH": code, **environment}
    script = f'tfserve() {{ {COMMAND} "$@"; }}\nset -o pipefail\n{line}'
    return subprocess.run(
        ["bash", "-c", script], cwd=folder, env=given, capture_output=True, text=True, errors="replace", timeout=120,
        check=False,
    )  # fmt: skip


@pytest.fixture
def prepared(server: Server, workspace: str) -> str:
    """A workspace with a file, a job that printed letters of many languages, and a model."""
    server.run(workspace, f"print({NAME!r}); text = {NAME!r}")
    server.http.put(f"/workspaces/{workspace}/files/a.txt", content=NAME.encode())
    server.call("/deploy/", name=workspace, path=str(echo.write(server.roots / "odd-terminal.echo")), timeout=60)
    return workspace


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment",
    [
        {"LC_ALL": "C"},
        {"LC_ALL": "POSIX", "PYTHONUTF8": "0"},
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
    ],
)
def test_letters_without_a_code_are_printed_as_escapes(
    server: Server, prepared: str, tmp_path: Path, environment: dict[str, str]
) -> None:
    for line in (f"tfserve variables {prepared}", f"tfserve variables {prepared} --json", "tfserve jobs --json"):
        done = shell(server, line, tmp_path, **environment)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
    shown = shell(server, f"tfserve variables {prepared} --json", tmp_path, **environment).stdout
    assert "caf" in shown


@pytest.mark.slow
def test_a_closed_or_full_output_is_a_sentence(server: Server, prepared: str, tmp_path: Path) -> None:
    full = shell(server, f"tfserve variables {prepared} > /dev/full", tmp_path)
    assert full.returncode == 1
    assert "No space left on device" in full.stderr
    assert "Traceback" not in full.stderr
    for line in (f"tfserve variables {prepared} >&-", f"tfserve jobs {prepared} 2>&-", "tfserve version >&- 2>&-"):
        assert "Traceback" not in shell(server, line, tmp_path).stderr


@pytest.mark.slow
def test_json_is_printed_by_every_command_that_offers_it(server: Server, prepared: str, tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("b")
    upload = json.loads(shell(server, "tfserve upload b.txt --json", tmp_path).stdout)["path"]
    job = server.http.get("/jobs/", params={"name": prepared}).json()["result"]["jobs"][-1]["id"]
    for line in (
        f"tfserve files get {prepared} a.txt --json",
        f"tfserve files put {prepared} b.txt --json",
        f"tfserve files rm {prepared} b.txt --json",
        f"tfserve uploads rm {upload} --json",
        f"tfserve logs {job} --json",
        f"tfserve scale {prepared} 1 --json",
        f"tfserve predict {prepared} '[[1, 2, 3]]' --json",
        f"tfserve undeploy {prepared} --json",
        f"tfserve workspaces restart {prepared} --json",
        f"tfserve workspaces destroy {prepared} --json",
    ):
        done = shell(server, line, tmp_path)
        assert done.returncode == 0, (line, done.stderr)
        assert json.loads(done.stdout) is not None, line


@pytest.mark.slow
def test_input_that_is_no_text_and_options_of_other_inputs_are_refused(
    server: Server, prepared: str, tmp_path: Path
) -> None:
    (tmp_path / "latin.json").write_bytes('[["é"]]'.encode("latin-1"))
    (tmp_path / "deep.json").write_text("[" * 100_000)
    for line, words in (
        (f"tfserve predict {prepared} latin.json", "not a text in UTF-8"),
        (f"tfserve predict {prepared} deep.json", "too many lists inside of each other"),
        (f"printf '\\xff' | tfserve predict {prepared} -", "not a text in UTF-8"),
        (f"printf '\\xff' | tfserve push - -w {prepared}", "not a text file in UTF-8"),
        (f"tfserve predict {prepared} '[[1, 2, 3]]' --top 3", "--top can't be used with JSON"),
        (f"tfserve predict {prepared} . --input x", "--input can't be used with a folder of images"),
        ("tfserve jobs --token 'ü'", "no token has"),
        ("tfserve jobs --server 'http://[::1'", "is not an address"),
        ("tfserve jobs --server ftp://x", "is not an address"),
        ("tfserve jobs --server 127.0.0.1:99999", "is not an address"),
    ):
        done = shell(server, line, tmp_path)
        assert done.returncode == 2, (line, done.stderr)
        assert words in done.stderr, (line, done.stderr)


def test_names_with_brackets_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    with Bar("uploading a[/red].png", total=2) as bar:
        bar.set(1, description="[/] [bold")
    assert "Traceback" not in capsys.readouterr().err
