"""A server that belongs to the demo: started on a free port, stopped with it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from tfserve_client import Client

ROOT = Path(__file__).resolve().parent.parent.parent
LAST_LINES = 40
#: more than a start or a stop ever takes
TIMEOUT_S = 60.0


class ServerError(Exception):
    """The server did not start or stop as it should."""


class Server:
    """A server process with its own data folder."""

    def __init__(self, data_dir: Path) -> None:
        self.last_lines: deque[str] = deque(maxlen=LAST_LINES)
        self._address: Future[str] = Future()
        # Settings meant for the user's own server, its database for example, are none of ours.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TFSERVE_")}
        options = [f"--data-dir={data_dir}", f"--roots={ROOT}{os.pathsep}{data_dir}"]
        self._process = subprocess.Popen(
            [sys.executable, "manage.py", "runserver", "127.0.0.1:0", *options],
            cwd=ROOT,
            env={**environment, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C reaches the demo only, which then stops the server in good order
        )
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()

    def wait_until_ready(self) -> str:
        """The server's address, once it takes work. Port 0 let it choose a free one, so it is read from its log."""
        url = self._address.result(timeout=TIMEOUT_S)
        deadline = time.monotonic() + TIMEOUT_S
        with Client(url) as client:
            while not client.is_ready():
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise ServerError("the server did not become ready")
                time.sleep(0.02)
        return url

    def stop(self) -> int:
        """Ask the server to stop, wait for that, and tell its exit code. Another Ctrl-C meanwhile stops it at once."""
        self._process.terminate()
        try:
            return self._process.wait(timeout=TIMEOUT_S)
        except KeyboardInterrupt:
            self._process.terminate()
            return self._process.wait(timeout=TIMEOUT_S)
        finally:
            self._process.kill()  # does nothing to a process that has ended
            self._reader.join(timeout=1)

    def _read_log(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.last_lines.append(line.rstrip())
            address = re.search(r"http://127\.0\.0\.1:\d+", line)
            if address and not self._address.done():
                self._address.set_result(address.group())
        if not self._address.done():
            self._address.set_exception(ServerError("the server ended before it told its address"))


@contextmanager
def running_server(data_dir: Path, console: Console) -> Iterator[str]:
    """The address of a server that runs as long as the block does. Shows its last words when something fails."""
    server = Server(data_dir)
    try:
        try:
            with console.status("Starting a server"):
                url = server.wait_until_ready()
            yield url
        finally:
            exit_code = server.stop()
        if exit_code != 0:
            raise ServerError(f"the server ended with exit code {exit_code} instead of 0")
    except Exception:
        last_lines = "\n  ".join(["The last lines of the server's log:", *server.last_lines])
        console.print(last_lines, markup=False, soft_wrap=True)
        raise
