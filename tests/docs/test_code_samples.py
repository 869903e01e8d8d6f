"""The code samples of the documentation work as they are written, against a real server."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import REPOSITORY, Server
from tests.docs_samples import OPTIONAL_TOOLS, RUN, Sample, matches, run, samples
from tests.protocols.grpc_port import free_port

DOCS = REPOSITORY / "docs"
PAGES = [REPOSITORY / "README.md", *sorted(DOCS.rglob("*.md"))]
#: train a model, or load TensorFlow many times
SLOW = {
    "any-language.md",
    "backup.md",
    "README.md",
    "update.md",
    "tutorial.md",
    "train.md",
    "deploy-formats.md",
    "migrate-tensorflow-serving.md",
}
CLIENTS = DOCS / "how-to" / "clients.md"

pages_with_samples = [
    pytest.param(page, id=str(page.relative_to(REPOSITORY)), marks=[pytest.mark.slow] * (page.name in SLOW))
    for page in PAGES
    if any(each.is_run for each in samples(page.read_text(encoding="utf-8")))
]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that looks like a checkout after its set-up, in which samples may write."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(REPOSITORY / "examples", folder / "examples")
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (folder / ".venv" / "bin" / "tfserve").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tfserve.cli "$@"\n')
    for program in (folder / ".venv" / "bin").iterdir():
        program.chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def server(checkout: Path) -> Iterator[Server]:
    ports = ["--v1-port", str(free_port()), "--grpc-port", str(free_port())]
    started = Server(
        checkout / ".tfserve", *ports, folder=checkout,
        command=(sys.executable, "-m", "tfserve.cli", "serve"),
    )  # fmt: skip
    yield started
    started.close()


def ports_of(server: Server) -> dict[str, str]:
    """The ports in the samples → those of the server."""
    v1 = re.search(r"v1 +http://\S+:(\d+)/", server.log)
    grpc = re.search(r"gRPC +\S+:(\d+)", server.log)
    assert v1
    assert grpc
    return {"8000": server.url.rpartition(":")[2], "8501": v1[1], "8001": grpc[1]}


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("page", pages_with_samples)
def test_the_samples_of_a_page_work(page: Path, server: Server, checkout: Path) -> None:
    server.call("/destroy_workspace/")
    run(page, checkout, ports_of(server), Path(sys.executable))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_sample_is_run_or_says_why_not(page: Path) -> None:
    """A shell command in an indented block would not be found, so it needs a fence."""
    prose = re.sub(r"^( *)```.*?^\1```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    assert re.findall(r"^ {4,}(?:\$ )?(?:curl|tfserve|python|make|sudo) .*$", prose, re.MULTILINE) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_samples_that_are_not_run_are_valid(page: Path) -> None:
    for each in samples(page.read_text(encoding="utf-8")):
        if each.language == "python":
            ast.parse(each.code)
        elif each.language == "bash":
            subprocess.run(["bash", "-n"], input=each.code, text=True, check=True)


def client(language: str) -> Sample:
    return next(each for each in samples(CLIENTS.read_text(encoding="utf-8")) if each.language == language)


@pytest.mark.parametrize("language", ["js", "java", "csharp", "php", "go", "python"])
def test_a_client_sends_the_file_to_the_documented_address(language: str) -> None:
    code = client(language).code
    assert "/v1/models/photos:predict" in code
    assert "image/png" in code
    assert "photo.png" in code
    assert re.search(r"\bPOST\b|\bPost(Async)?\(|data=", code)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("mcs"), reason="the compiler of Mono is not installed")
def test_the_client_in_csharp_works(server: Server, checkout: Path) -> None:
    server.call("/destroy_workspace/")
    write = [sys.executable, "examples/small_models.py", ".", "brightness.onnx", "photo.png"]
    subprocess.run(write, cwd=checkout, check=True)
    server.call("/create_workspace/", name="photos")
    server.call("/deploy/", name="photos", path="brightness.onnx", timeout=60)
    (checkout / "Program.cs").write_text(client("csharp").code)
    subprocess.run(["mcs", "-r:System.Net.Http", "Program.cs"], cwd=checkout, check=True)
    done = subprocess.run(
        ["mono", "Program.exe"], cwd=checkout, env={**os.environ, "TFSERVE_URL": server.url},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert '{"predictions":[{"label":"light",' in done.stdout, done.stderr


def test_the_samples_are_found() -> None:
    text = '<!-- not run: why -->\n```bash\na\n```\n\n```bash\nb\n```\n\n```json\n{"b": …}\n```\n\n'
    text += '```js title="c.mjs"\nc\n```\n'
    found = samples(text)
    assert [(each.code, each.is_run, each.output, each.title) for each in found] == [
        ("a\n", False, "", ""),
        ("b\n", True, '{"b": …}\n', ""),
        ("c\n", False, "", "c.mjs"),
    ]


@pytest.mark.parametrize(
    ("expected", "output", "result"),
    [
        ('{"a":1}', ' {"a": 1}\n', True),
        ('{"a":1}', '{"a":2}', False),
        ('{"a":…,"b":2}', '{"a":17,"b":2}', True),
        ('{"a":…,"b":2}', '{"a":17,"b":3}', False),
        ("", "anything", True),
    ],
)
def test_an_output_is_compared_apart_from_the_ellipses(expected: str, output: str, result: bool) -> None:
    assert matches(expected, output) is result


def test_the_clients_use_known_tools() -> None:
    started = {each.tool for each in samples(CLIENTS.read_text(encoding="utf-8")) if each.language in RUN}
    assert started - {""} == set(OPTIONAL_TOOLS)
