"""The npm packages of `package-lock.json`, installed once and kept in `.clients`."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
from pathlib import Path

from tests.protocols.clients import CACHE

HERE = Path(__file__).parent
FILES = ("package.json", "package-lock.json")


def npm_packages() -> Path:
    """The folder `node_modules`."""
    key = b"".join((HERE / name).read_bytes() for name in FILES)
    folder = CACHE / f"npm-{hashlib.sha256(key).hexdigest()[:12]}"
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "npm-lock").open("w") as lock:  # two test processes may want it at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            folder.mkdir(exist_ok=True)
            for name in FILES:
                shutil.copy(HERE / name, folder)
            install = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--silent"]
            subprocess.run(install, cwd=folder, check=True)
            (folder / "complete").touch()
    return folder / "node_modules"
