"""A PostgreSQL server of a test's own."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class NotInstalled(Exception):
    """PostgreSQL's server programs are not installed."""


class PostgreSQL:
    """Its data are in `folder`. Clients of `network` may use it without a password."""

    def __init__(self, folder: Path, programs: Path, as_user: dict[str, str], address: str, network: str) -> None:
        self._data, self._port = folder / "data", _free_port()
        self._pg_ctl = programs / "pg_ctl"
        self._quiet = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": "/", **as_user}
        self._options = f"-p {self._port} -c listen_addresses={address} -c unix_socket_directories={folder}"
        subprocess.run([programs / "initdb", "-D", self._data, "-U", "tester", "-A", "trust"], **self._quiet)
        with (self._data / "pg_hba.conf").open("a") as access:
            access.write(f"host all all {network} trust\n")
        self.url = f"postgresql://tester@{address}:{self._port}/postgres"

    def start(self) -> None:
        log = self._data.parent / "log"
        subprocess.run([self._pg_ctl, "-D", self._data, "-w", "-o", self._options, "-l", log, "start"], **self._quiet)

    def stop(self) -> None:
        subprocess.run([self._pg_ctl, "-D", self._data, "-w", "-m", "immediate", "stop"], **self._quiet)


@contextmanager
def private_server(address: str = "127.0.0.1", network: str = "127.0.0.0/8") -> Iterator[PostgreSQL]:
    """A running server, until the block ends. Raises `NotInstalled`."""
    config = shutil.which("pg_config")
    programs = Path(subprocess.check_output([config, "--bindir"], text=True).strip()) if config else Path("/none")
    if not (programs / "initdb").exists():
        raise NotInstalled("PostgreSQL's server programs are not installed")
    as_user = {"user": _unprivileged()} if os.geteuid() == 0 else {}
    with tempfile.TemporaryDirectory(prefix="tfserve-pg-") as name:
        folder = Path(name)
        if as_user:
            shutil.chown(folder, as_user["user"])
        running = PostgreSQL(folder, programs, as_user, address, network)
        running.start()
        try:
            yield running
        finally:
            running.stop()


def _unprivileged() -> str:
    """PostgreSQL refuses to run as root."""
    names = [entry.pw_name for entry in pwd.getpwall()]
    return "postgres" if "postgres" in names else "nobody"


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
