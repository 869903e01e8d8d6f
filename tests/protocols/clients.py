"""Programs under test that are not ours: each set in a virtual environment of its own, made once and kept."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
PINS = Path(__file__).with_name("clients.txt")
PROGRAMS = REPOSITORY / "tests" / "programs"
CACHE = REPOSITORY / ".clients"


class Clients:
    """Runs programs with what `pins` lists; with `sees_product` they may import the product's libraries too."""

    def __init__(self, pins: Path = PINS, *, sees_product: bool = False) -> None:
        key = pins.read_bytes() + sys.version.encode()
        self.folder = CACHE / f"venv-{hashlib.sha256(key).hexdigest()[:12]}"
        self.python = self.folder / "bin" / "python"
        CACHE.mkdir(exist_ok=True)
        with (CACHE / "lock").open("w") as lock:  # two test processes may want it at once
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (self.folder / "complete").exists():
                self._make(pins)
            if sees_product:
                self._link_product()

    def _link_product(self) -> None:
        """Also for an environment that exists: the product's own may have moved since."""
        (site,) = self.folder.glob("lib/python*/site-packages")
        (site / "product.pth").write_text(sysconfig.get_path("purelib"))

    def _make(self, pins: Path) -> None:
        venv.create(self.folder, clear=True, with_pip=False)
        subprocess.run(
            [sys.executable, "-m", "pip", "--python", str(self.python), "install", "--quiet", "--no-deps",
             "--disable-pip-version-check", "--no-compile", "--requirement", str(pins)],
            check=True,
        )  # fmt: skip
        (self.folder / "complete").touch()

    def run(self, program: str, *arguments: str, timeout_s: float = 120) -> Any:
        """What the program prints, as JSON. A program fails by raising."""
        return json.loads(self.output(PROGRAMS / program, *arguments, timeout_s=timeout_s))

    def output(self, program: Path, *arguments: str, timeout_s: float = 120) -> str:
        """What the program prints. `program` may be a folder with a `__main__.py`."""
        done = subprocess.run(
            [str(self.python), str(program), *arguments],
            env={name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout
