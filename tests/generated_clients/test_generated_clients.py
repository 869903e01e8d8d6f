"""Clients that three generators make of the OpenAPI document, each used for the whole flow against a real server.

The three run at the same time, because each trains.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from PIL import Image

from tests.acceptance.conftest import REPOSITORY, Server
from tests.generated_clients.npm_packages import npm_packages
from tests.protocols.clients import Clients

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("npm"), reason="npm is not installed: two of the generators are for Node"),
    pytest.mark.timeout(300),
]
HERE = Path(__file__).parent
GENERATORS = ("openapi-python-client", "oazapfts", "openapi-typescript")
CLASSES, IMAGES = ("one", "zero"), 8


class Node(NamedTuple):
    """A folder with the generated TypeScript."""

    folder: Path

    def run(self, *command: str) -> None:
        tool = self.folder / "node_modules" / ".bin" / command[0]
        done = subprocess.run([tool, *command[1:]], cwd=self.folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server, with a model, a JPEG file, and a small project for each client."""
    folder = tmp_path_factory.mktemp("generated")
    programs = REPOSITORY / "examples"
    subprocess.run([sys.executable, programs / "small_models.py", folder, "half.onnx"], check=True)
    subprocess.run([sys.executable, programs / "digits" / "images.py", folder / "digits"], check=True)
    for label in CLASSES:
        for number in range(IMAGES):
            for generator in GENERATORS:
                target = folder / generator / "images" / label / f"{number}.png"
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(folder / "digits" / "images" / label / f"{number}.png", target)
    Image.open(folder / "digits" / "unseen" / "zero.png").convert("RGB").save(folder / "zero.jpg")
    server = Server(folder / "data", "--train-workers", "3")
    yield server
    server.close()


@pytest.fixture(scope="module")
def clients(served: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """The running programs, by generator."""
    folder = tmp_path_factory.mktemp("clients")
    document = folder / "openapi.json"
    document.write_bytes(served.http.get("/openapi.json").content)
    python = python_client(folder / "python", document)
    node = node_clients(folder / "node", document)
    started = {
        "openapi-python-client": start(served, "openapi-python-client", *python),
        "oazapfts": start(served, "oazapfts", "node", node / "use_oazapfts.js"),
        "openapi-typescript": start(served, "openapi-typescript", "node", node / "use_openapi_typescript.js"),
    }
    yield started
    for process in started.values():
        process.kill()
        process.communicate()


def python_client(folder: Path, document: Path) -> list[str | Path]:
    """Generates the package and returns the command of its program."""
    made = Clients(HERE / "pins.txt")
    program = folder / "use_openapi_python_client.py"
    folder.mkdir()
    shutil.copy(HERE / program.name, program)
    done = subprocess.run(
        [made.python, "-m", "openapi_python_client", "generate", "--path", document, "--meta", "none",
         "--output-path", folder / "generated"],
        env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return [made.python, program]


def node_clients(folder: Path, document: Path) -> Path:
    """Generates and compiles both clients, with all checks of types. Returns the folder of the JavaScript."""
    folder.mkdir()
    for path in (*HERE.glob("*.ts"), HERE / "package.json"):
        shutil.copy(path, folder)
    (folder / "node_modules").symlink_to(npm_packages())
    node = Node(folder)
    node.run("oazapfts", str(document), "generated_oazapfts.ts")
    # Fields with a default are optional in requests.
    node.run("openapi-typescript", str(document), "--default-non-nullable", "false", "-o", "generated_types.ts")
    sources = [str(path) for path in folder.glob("*.ts")]
    node.run("tsc", "--strict", "--target", "es2022", "--module", "nodenext", "--skipLibCheck", *sources)
    return folder


def start(server: Server, generator: str, *command: str | Path) -> subprocess.Popen[str]:
    folder = server.roots
    arguments = [server.url, folder / generator, folder / "half.onnx", folder / "zero.jpg"]
    return subprocess.Popen(
        [*command, *arguments], env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def environment() -> dict[str, str]:
    """Without the paths of this checkout, which are not for programs with an environment of their own."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


@pytest.mark.parametrize("generator", GENERATORS)
def test_a_generated_client_does_the_whole_flow(clients: dict[str, subprocess.Popen[str]], generator: str) -> None:
    process = clients[generator]
    output, _ = process.communicate(timeout=240)
    assert (process.returncode, output.splitlines()[-1:]) == (0, ["all done"]), output
