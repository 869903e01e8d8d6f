"""The programs in examples/<language>, each against a real server that requires a token.

A program whose toolchain is missing is skipped, unless TFSERVE_INSTALL_TOOLCHAINS=1 installs it with apt-get.
"""

from __future__ import annotations

import functools
import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.acceptance.browser import CHROMIUM, Browser
from tests.acceptance.conftest import REPOSITORY, Server
from tests.acceptance.test_access import token

EXAMPLES = REPOSITORY / "examples"
MONO = "libmono-system-{}4.0-cil"
STEPS = """
created workspace \\w+
pushed job \\d+
  line 0
  line 1
  line 2
followed the job: succeeded
deployed half.onnx
predicted by v1: .*2\\.5\\D+3(?:\\.0)?\\D+3\\.5\\D+4(?:\\.0)?\\D*
predicted by v2: \\D*2\\.5\\D+3(?:\\.0)?\\D+3\\.5\\D+4(?:\\.0)?\\D*
classified the image: light
(?:  .*\n)*trained: {state} .*
cancelled job \\d+
refused with status 404: There is no workspace 'no such workspace'.*
destroyed the workspace
"""
"""What each of them prints, as a regular expression."""


@dataclass(frozen=True)
class Language:
    """How a program is built and run. `packages` are those of Debian; `{out}` is a folder for what is built."""

    program: str
    packages: tuple[str, ...]
    run: tuple[str, ...]
    build: tuple[str, ...] = ()

    @property
    def tools(self) -> list[str]:
        return [each[0] for each in (self.build, self.run) if each and "{" not in each[0]]


LANGUAGES = {
    "curl": Language("workflow.sh", ("curl",), ("bash", "{program}")),
    "node": Language("workflow.mjs", ("nodejs",), ("node", "{program}")),
    "java": Language("Workflow.java", ("default-jdk-headless",), ("java", "{program}")),
    "go": Language("workflow.go", ("golang-go",), ("go", "run", "{program}")),
    "csharp": Language(
        "Workflow.cs",
        ("mono-mcs", "mono-runtime", *map(MONO.format, ("net-http", "runtime-serialization", "xml-linq"))),
        ("mono", "{out}/Workflow.exe"),
        ("mcs", "-out:{out}/Workflow.exe", "-r:System.Net.Http", "-r:System.Runtime.Serialization", "-r:System.Xml",
         "-r:System.Xml.Linq", "{program}"),
    ),
    "php": Language("workflow.php", ("php-cli",), ("php", "{program}")),
    "ruby": Language("workflow.rb", ("ruby",), ("ruby", "{program}")),
    "perl": Language("workflow.pl", ("perl",), ("perl", "{program}")),
    "cpp": Language(
        "workflow.cpp", ("g++",), ("{out}/workflow",), ("g++", "-std=c++17", "-o", "{out}/workflow", "{program}")
    ),
    "rust": Language(
        "workflow.rs", ("rustc",), ("{out}/workflow",),
        ("rustc", "--edition", "2021", "-o", "{out}/workflow", "{program}"),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def page_server() -> Iterator[str]:
    """The address of a web server with the page of examples/browser."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(EXAMPLES / "browser"))
    with http.server.ThreadingHTTPServer(("localhost", 0), handler) as pages:
        thread = threading.Thread(target=pages.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://localhost:{pages.server_port}"
        pages.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that docs/how-to/any-language.md prepares."""
    folder = tmp_path_factory.mktemp("languages")
    models = [sys.executable, EXAMPLES / "small_models.py", folder, "half.onnx", "brightness.onnx", "photo.png"]
    subprocess.run(models, check=True)
    subprocess.run([sys.executable, EXAMPLES / "digits" / "images.py", folder / "digits"], check=True)
    return folder


@pytest.fixture(scope="module")
def server(folder: Path, page_server: str) -> Iterator[Server]:
    server = Server(folder / "data", "--auth", "on", environment={"TFSERVE_ALLOWED_ORIGINS": page_server})
    yield server
    server.close()


@pytest.fixture(scope="module")
def secret(server: Server) -> str:
    return token(server, "examples", "submit", "train")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for what is built, once."""
    return tmp_path_factory.mktemp("built")


@functools.cache
def command(name: str, out: Path) -> list[str]:
    """The command of a program, which is built first. Skips without its toolchain."""
    language = LANGUAGES[name]
    if os.environ.get("TFSERVE_INSTALL_TOOLCHAINS") == "1" and not all(map(shutil.which, language.tools)):
        install = ["apt-get", "install", "--yes", "--no-install-recommends", *language.packages]
        subprocess.run(install, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, check=True)
    if missing := [tool for tool in language.tools if shutil.which(tool) is None]:
        pytest.skip(f"{', '.join(missing)} is not installed")
    (out / name).mkdir(exist_ok=True)
    values = {"program": EXAMPLES / name / language.program, "out": out / name}
    if language.build:
        done = subprocess.run([each.format(**values) for each in language.build], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    return [each.format(**values) for each in language.run]


def run(
    command: list[str], folder: Path, url: str, secret: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    settings = {"TFSERVE_URL": url, "TFSERVE_TOKEN": secret, **environment}
    return subprocess.run(
        [*command, folder], env={**os.environ, **settings}, capture_output=True, text=True, timeout=300, check=False
    )


def workspaces(server: Server, secret: str) -> list[str]:
    names: list[str] = server.http.post("/get_workspace/", headers={"X-API-Key": secret}).json()["result"]
    return names


@pytest.mark.slow
@pytest.mark.parametrize("name", LANGUAGES)
def test_a_program_does_the_whole_workflow(server: Server, folder: Path, secret: str, name: str, out: Path) -> None:
    done = run(command(name, out), folder, server.url, secret, TFSERVE_QUICK="1")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    assert re.fullmatch(STEPS.format(state="cancelled").lstrip(), done.stdout), done.stdout
    assert workspaces(server, secret) == []


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("name", LANGUAGES)
def test_a_program_trains_to_the_end(server: Server, folder: Path, secret: str, name: str, out: Path) -> None:
    done = run(command(name, out), folder, server.url, secret)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.fullmatch(STEPS.format(state="done").lstrip(), done.stdout), done.stdout
    trained = re.search(r"^trained: done (.+)$", done.stdout, re.MULTILINE)
    assert trained, done.stdout
    assert (Path(trained[1]) / "saved_model.pb").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("name", LANGUAGES)
def test_a_program_reports_the_servers_message_and_fails(
    server: Server, folder: Path, secret: str, name: str, out: Path
) -> None:
    program = command(name, out)
    refused = run(program, folder, server.url, f"{secret}x")
    assert refused.returncode != 0
    assert "The token was refused" in refused.stdout + refused.stderr
    without = run(program, folder, "http://127.0.0.1:1", secret)
    assert without.returncode != 0


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_the_page_does_the_whole_workflow(
    server: Server, folder: Path, secret: str, page_server: str, tmp_path: Path
) -> None:
    browser = Browser(tmp_path, page_server)
    try:
        assert browser.wait_for("Folder on the server")
        fields = {"server": server.url, "token": secret, "folder": folder}
        for name, value in fields.items():
            browser.evaluate(f"document.forms[0].elements.{name}.value = {str(value)!r}")
        browser.evaluate("document.forms[0].elements.quick.checked = true; document.forms[0].requestSubmit()")
        assert browser.wait_for("destroyed the workspace")
        steps = browser.evaluate("document.getElementById('steps').textContent")
        assert re.fullmatch(STEPS.format(state="cancelled").lstrip() + "(all steps succeeded\n)?", steps), steps
    finally:
        browser.close()


def test_each_language_has_a_program_and_a_row_in_the_documents() -> None:
    folders = {path.name for path in EXAMPLES.iterdir() if path.is_dir()} - {"demo_parts", "digits", "__pycache__"}
    assert folders == {*LANGUAGES, "browser"}
    for document in (REPOSITORY / "README.md", REPOSITORY / "docs/how-to/any-language.md"):
        linked = set(re.findall(r"examples/(\w+)/", document.read_text(encoding="utf-8")))
        assert folders <= linked, document
