"""A PostgreSQL of the run's own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.acceptance.test_postgresql import PostgreSQL, _unprivileged


@contextmanager
def private_cluster() -> Iterator[PostgreSQL]:
    """Exits with a sentence where PostgreSQL's server programs are not installed."""
    config = shutil.which("pg_config")
    programs = Path(subprocess.check_output([config, "--bindir"], text=True).strip()) if config else Path("/none")
    if not (programs / "initdb").exists():
        raise SystemExit("chaos: PostgreSQL's server programs are not installed")
    as_user = {"user": _unprivileged()} if os.geteuid() == 0 else {}
    with tempfile.TemporaryDirectory(prefix="tfserve-pg-") as name:
        folder = Path(name)
        if as_user:
            shutil.chown(folder, as_user["user"])
        running = PostgreSQL(folder, programs, as_user)
        running.start()
        try:
            yield running
        finally:
            running.stop()
