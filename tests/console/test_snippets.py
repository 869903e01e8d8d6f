"""The programs that a model's page shows run as pasted, in every language whose toolchain is here."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.acceptance.conftest import Server
from tests.console.image_models import image_models

__all__ = ["image_models"]

QUICK = {"curl": ["bash", "call.sh"], "python": ["python3", "call.py"], "javascript": ["node", "call.mjs"],
         "php": ["php", "call.php"]}  # fmt: skip
SLOW = {"java": ["java", "Call.java"], "go": ["go", "run", "call.go"]}


@pytest.fixture(scope="module")
def numbers(server: Server, models: Path) -> Iterator[str]:
    """A model that doubles pairs of numbers."""
    yield from deployed(server, "numbers & more", models / "scale")


@pytest.fixture(scope="module")
def pictures(server: Server, image_models: Path) -> Iterator[str]:
    """A model that takes image files."""
    yield from deployed(server, "pictures", image_models / "labels")


def deployed(server: Server, name: str, path: Path) -> Iterator[str]:
    name = server.call("/create_workspace/", name=re.sub(r"[^\w .-]", "-", name))
    job = server.call("/deploy/", name=name, path=str(path), timeout=120)
    assert job["result"] is True, job
    yield name
    server.call("/destroy_workspace/", name=name)


def snippet(server: Server, name: str, usage: str, language: str) -> str:
    page = server.http.get(f"/pages/models/{name}/").text
    found = re.search(rf'<code id="code-{usage}-{language}">(.*?)</code>', page, re.DOTALL)
    assert found, f"the page has no {language} program for {usage}"
    return html.unescape(found[1])


def output_of(command: list[str], code: str, folder: Path) -> str:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    (folder / command[-1]).write_text(code)
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.mark.parametrize("language", QUICK)
@pytest.mark.parametrize("usage", ["v1", "v2", "file"])
def test_a_program_prints_the_prediction(
    server: Server, numbers: str, usage: str, language: str, tmp_path: Path
) -> None:
    (tmp_path / "request.json").write_text(server.http.get(f"/pages/models/{numbers}/request-v1.json").text)
    printed = output_of(QUICK[language], snippet(server, numbers, usage, language), tmp_path)
    assert ("outputs" if usage == "v2" else "predictions") in printed
    assert "1.0" in printed or "1" in printed


@pytest.mark.slow
@pytest.mark.parametrize("language", QUICK)
def test_a_program_sends_an_image(server: Server, pictures: str, language: str, tmp_path: Path) -> None:
    Image.new("RGB", (20, 10), "red").save(tmp_path / "image.jpg")
    printed = output_of(QUICK[language], snippet(server, pictures, "file", language), tmp_path)
    assert "label" in printed


@pytest.mark.slow
@pytest.mark.parametrize("language", SLOW)
def test_a_compiled_program_prints_the_prediction(
    server: Server, numbers: str, pictures: str, language: str, tmp_path: Path
) -> None:
    Image.new("RGB", (20, 10), "red").save(tmp_path / "image.jpg")
    assert "predictions" in output_of(SLOW[language], snippet(server, numbers, "v1", language), tmp_path)
    assert "label" in output_of(SLOW[language], snippet(server, pictures, "file", language), tmp_path)


@pytest.mark.slow
def test_a_program_in_csharp_prints_the_prediction(server: Server, numbers: str, pictures: str, tmp_path: Path) -> None:
    """Compiled with Mono, which needs what .NET 6 adds by itself: the usual namespaces, a class and `Main`."""
    if shutil.which("mcs") is None:
        pytest.skip("the compiler of Mono is not installed")
    Image.new("RGB", (20, 10), "red").save(tmp_path / "image.jpg")
    for name, usage, word in ((numbers, "v1", "predictions"), (numbers, "v2", "outputs"), (pictures, "file", "label")):
        (tmp_path / "Call.cs").write_text(for_mono(snippet(server, name, usage, "csharp")))
        subprocess.run(["mcs", "-r:System.Net.Http", "Call.cs"], cwd=tmp_path, check=True)
        ran = subprocess.run(["mono", "Call.exe"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert word in ran.stdout, ran.stdout + ran.stderr


def for_mono(code: str) -> str:
    imports, _, statements = code.partition("\n\n")
    usual = "using System; using System.IO; using System.Net.Http; using System.Threading.Tasks;"
    statements = statements.replace("using var ", "var ")
    return (
        f"{usual}\n{imports}\nclass Call {{\nstatic void Main() {{ Run().Wait(); }}\n"
        f"static async Task Run() {{\n{statements}\n}}\n}}\n"
    )


def test_every_language_has_a_program_for_every_way(server: Server, numbers: str) -> None:
    for usage in ("v1", "v2", "file"):
        for language in (*QUICK, *SLOW, "csharp"):
            code = snippet(server, numbers, usage, language)
            assert server.url in code.replace("\\/", "/")
            assert "TFSERVE_TOKEN" in code


def test_the_examples_to_download_are_accepted(server: Server, numbers: str) -> None:
    for protocol, path in (("v1", f"/v1/models/{numbers}:predict"), ("v2", f"/v2/models/{numbers}/infer")):
        example = server.http.get(f"/pages/models/{numbers}/request-{protocol}.json")
        assert "attachment" in example.headers["Content-Disposition"]
        assert server.http.post(path, content=example.content).status_code == 200
