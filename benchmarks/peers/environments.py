"""A virtual environment for each peer, made on first use and kept: their dependencies don't go together."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.peers.table import Peer

VERSIONS = """
import sys
from importlib.metadata import version
print(*(f"{name} {version(name)}" for name in sys.argv[1:]), sep=", ")
"""


class Unavailable(Exception):
    """Something that the comparison needs can't be had; the reason stands in the table."""


def python_of(name: str, peer: Peer, cache: Path) -> Path:
    """The interpreter of the peer's environment; raises Unavailable."""
    folder = cache / "venvs" / name
    stamp, wanted = folder / "packages.json", json.dumps(peer.packages)
    if not stamp.exists() or stamp.read_text() != wanted:
        make(folder, peer)
        stamp.write_text(wanted)
    return folder / "bin" / "python"


def make(folder: Path, peer: Peer) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    interpreter = peer.interpreter or sys.executable
    if shutil.which(interpreter) is None:
        raise Unavailable(f"needs {interpreter}")
    must([interpreter, "-m", "venv", str(folder)])
    must([str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *peer.packages])


def must(command: list[str]) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        errors = [line for line in done.stdout.splitlines() if line.startswith("ERROR:")]
        raise Unavailable(f"not installed: {errors[-1] if errors else f'exit code {done.returncode}'}"[:200])


def versions(python: Path, peer: Peer) -> str:
    """What is really installed, to stand beside the numbers: the framework, and TensorFlow."""
    names = [package.partition("==")[0].partition("[")[0].partition("<")[0] for package in peer.packages]
    command = [str(python), "-c", VERSIONS, *names]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
