"""The server as strangers install it: from a wheel, without TensorFlow, in a folder that is not the checkout."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import tfserve
from tests.acceptance.conftest import REPOSITORY, Server
from tests.acceptance.test_daemon import free_port

pytestmark = pytest.mark.slow

PACKAGE = REPOSITORY / "tfserve"
INSTALL_TIMEOUT_S = 500
#: Without the checkout and without settings of the surrounding shell.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "TFSERVE_"))}
STATIC = [
    path.relative_to(PACKAGE / "web/pages") for path in (PACKAGE / "web/pages/static").rglob("*") if path.is_file()
]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with what `deploy/install.sh` installs, as the Dockerfile and the systemd unit use it."""
    target = tmp_path_factory.mktemp("installed") / "tfserve"
    subprocess.run(
        [REPOSITORY / "deploy/install.sh", target, ""],
        env={**ENVIRONMENT, "PYTHON": sys.executable}, check=True, timeout=INSTALL_TIMEOUT_S,
    )  # fmt: skip
    return target


@pytest.fixture(scope="module")
def installed(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("elsewhere")
    running = Server(
        folder / "data",
        command=(str(environment / "bin/tfserve"), "serve"), folder=folder, environment={"PYTHONPATH": ""},
    )  # fmt: skip
    yield running
    running.close()


def test_the_package_has_every_file_of_the_checkout(environment: Path) -> None:
    (site,) = environment.glob("lib/python*/site-packages")
    assert files(site / "tfserve") == files(PACKAGE)
    assert (site / f"tfserve-{tfserve.__version__}.dist-info" / "licenses" / "LICENSE").exists()


def files(folder: Path) -> set[Path]:
    found = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    return {path for path in found if path.suffix != ".pyc"}


def test_scripts_run_and_have_a_page(installed: Server) -> None:
    installed.call("/create_workspace/", name="first")
    job = installed.run("first", "import tfserve; x = 6 * 7; where = tfserve.__file__")
    assert (job["state"], job["variable"]["x"]) == ("succeeded", 42)
    assert str(PACKAGE) not in job["variable"]["where"]
    for page in ("/pages/workspaces/", f"/pages/jobs/{job['id']}/"):
        shown = installed.http.get(page)
        assert (shown.status_code, "first" in shown.text) == (200, True)
        linked = re.findall(r'(?:src|href)="(/static/[^"]+)"', shown.text)
        assert linked
        assert {installed.http.get(path).status_code for path in linked} == {200}


@pytest.mark.parametrize("path", STATIC, ids=str)
def test_every_static_file_is_served(installed: Server, path: Path) -> None:
    assert installed.http.get(f"/{path}").content == (PACKAGE / "web/pages" / path).read_bytes()


def test_every_address_that_takes_no_parameter_can_be_read(installed: Server) -> None:
    document = installed.http.get("/openapi.json").json()
    assert document["info"]["version"] == tfserve.__version__
    readable = [path for path, methods in document["paths"].items() if "get" in methods and "{" not in path]
    assert {path: installed.http.get(path).status_code for path in readable} == dict.fromkeys(readable, 200)


def test_an_unknown_page_is_404(installed: Server) -> None:
    assert installed.http.get("/pages/nothing/").status_code == 404


def test_start_status_and_stop_work_in_any_folder(environment: Path, tmp_path: Path) -> None:
    port, training_port = free_port(), free_port()

    def tfserve_(action: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [environment / "bin/tfserve", action, f"127.0.0.1:{port}", "--port", str(training_port)],
            cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    try:
        started = tfserve_("start")
        assert started.returncode == 0, started.stderr
        for each in (port, training_port):
            assert httpx.post(f"http://127.0.0.1:{each}/get_workspace/").json()["result"] == []
        assert tfserve_("status").returncode == 0
        assert {path.name for path in tmp_path.iterdir()} == {".tfserve", "log"}
    finally:
        stopped = tfserve_("stop")
    assert (stopped.returncode, tfserve_("status").returncode) == (0, 3)


def test_the_command_of_the_container_serves_and_passes_its_health_check(environment: Path, tmp_path: Path) -> None:
    """The image has no other step than `deploy/install.sh`, which the fixture runs, and this command."""
    health, command = (
        json.loads(line) for line in re.findall(r"CMD (\[.*\])", (REPOSITORY / "Dockerfile").read_text())
    )
    assert command[:3] == ["tfserve", "serve", "0.0.0.0:8000"]
    running = Server(
        tmp_path / "data", *command[3:], host="0.0.0.0",
        command=(str(environment / "bin/tfserve"), "serve"), folder=tmp_path, environment={"PYTHONPATH": ""},
    )  # fmt: skip
    try:
        script = health[-1].replace(":8000", f":{httpx.URL(running.url).port}")
        assert subprocess.run([environment / "bin/python", *health[1:-1], script], env=ENVIRONMENT).returncode == 0
    finally:
        running.close()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_the_systemd_unit_is_valid(environment: Path, tmp_path: Path) -> None:
    text = (REPOSITORY / "deploy/tfserve.service").read_text()
    unit = tmp_path / "tfserve.service"
    unit.write_text(text.replace("ExecStart=/opt/tfserve", f"ExecStart={environment}"))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
