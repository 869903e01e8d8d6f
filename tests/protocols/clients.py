"""The clients under test: programs that run in a virtual environment of their own, made once and kept."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
PINS = Path(__file__).with_name("clients.txt")
PROGRAMS = REPOSITORY / "tests" / "programs"
CACHE = REPOSITORY / ".clients"


class Clients:
    """Runs programs of `tests/programs` with the pinned clients."""

    def __init__(self) -> None:
        pins = PINS.read_bytes() + sys.version.encode()
        self.folder = CACHE / f"venv-{hashlib.sha256(pins).hexdigest()[:12]}"
        self.python = self.folder / "bin" / "python"
        CACHE.mkdir(exist_ok=True)
        with (CACHE / "lock").open("w") as lock:  # two test processes may want it at once
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (self.folder / "complete").exists():
                self._make()

    def _make(self) -> None:
        venv.create(self.folder, clear=True, with_pip=False)
        subprocess.run(
            [sys.executable, "-m", "pip", "--python", str(self.python), "install", "--quiet", "--no-deps",
             "--disable-pip-version-check", "--no-compile", "--requirement", str(PINS)],
            check=True,
        )  # fmt: skip
        (self.folder / "complete").touch()

    def run(self, program: str, *arguments: str, timeout_s: float = 120) -> Any:
        """What the program prints, as JSON. A program fails by raising."""
        done = subprocess.run(
            [str(self.python), str(PROGRAMS / program), *arguments],
            env={name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)
