"""A server that is started again whenever it ends, on the same port and data folder."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import psutil

from faults.rows import REPOSITORY
from tfserve.supervisor.processes.child import owner_of

FIRST_PORT, LAST_PORT = 20_000, 30_000
"""Below the ports that Linux gives to clients, so that nothing takes the port while the server is down."""
AGAIN_S = 0.3
READY_EVERY_S = 0.02


class KeptServer:
    """`serving` is set while the server is ready; `restarts` are (exit code, seconds from its end to serving again)."""

    def __init__(self, folder: Path, data_dir: Path, *options: str, environment: dict[str, str]) -> None:
        self.folder, self.data_dir = folder, data_dir
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "server.log"
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self.serving = threading.Event()
        self.restarts: list[tuple[int, float]] = []
        self.exit_codes: list[int] = []
        self.process: subprocess.Popen[bytes] | None = None
        self._command = [sys.executable, "manage.py", "runserver", f"127.0.0.1:{self.port}", *options]
        self._environment = {**os.environ, "TMPDIR": str(self.temporary), **environment}
        self._is_over = threading.Event()
        self._keeper = threading.Thread(target=self._keep)

    def start(self) -> None:
        self._keeper.start()
        if not self.serving.wait(120):
            raise RuntimeError(f"the server did not start:\n{self.log.read_text()}")

    def processes(self) -> list[psutil.Process]:
        """The server and all that it started; none while it is down."""
        process = self.process
        if process is None:
            return []
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(process.pid)
            return [root, *root.children(recursive=True)]
        return []

    def stop(self, timeout_s: float = 60) -> int:
        """Ends it for good and returns its exit code. Raises TimeoutExpired."""
        self._is_over.set()
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout_s)
        finally:
            if self.process.poll() is None:
                self.process.kill()
            self._keeper.join(timeout_s)

    def leftovers(self) -> list[str]:
        """Processes that have the mark of a server on this data folder."""
        mark = f"TFSERVE_OWNER={owner_of(str(self.data_dir.resolve()))}"
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if mark.encode() in Path(f"/proc/{process.pid}/environ").read_bytes():
                    found.append(f"{process.pid} {' '.join(process.cmdline())[:100]}")
        return found

    def _keep(self) -> None:
        ended_at: float | None = None
        ended_with = 0
        while not self._is_over.is_set():
            with self.log.open("ab") as log:
                self.process = subprocess.Popen(
                    [*self._command, "--data-dir", str(self.data_dir)],
                    cwd=REPOSITORY, env=self._environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                )  # fmt: skip
            if self._until_ready(self.process):
                if ended_at is not None:
                    self.restarts.append((ended_with, time.monotonic() - ended_at))
                ended_at = None
                self.serving.set()
            self.exit_codes.append(self.process.wait())
            self.serving.clear()
            if ended_at is None:
                ended_at, ended_with = time.monotonic(), self.exit_codes[-1]
            if self.exit_codes[-1] == 1:  # refused to start: a full disk, no database
                self._is_over.wait(AGAIN_S)

    def _until_ready(self, process: subprocess.Popen[bytes]) -> bool:
        while process.poll() is None and not self._is_over.is_set():
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/v2/health/ready", timeout=5).status_code == 200:
                    return True
            time.sleep(READY_EVERY_S)
        return False


def _free_port() -> int:
    while True:
        port = random.randrange(FIRST_PORT, LAST_PORT)
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port
