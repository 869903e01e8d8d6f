"""`tfserve serve --standby` as a subprocess."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx

from tests.acceptance.conftest import REPOSITORY, Server


class Standby:
    """`tfserve serve --standby`, and the lines that it prints."""

    def __init__(self, data_dir: Path, **environment: str) -> None:
        command = [
            sys.executable, "-m", "tfserve.cli", "serve", "127.0.0.1:0", "--standby",
            "--data-dir", str(data_dir),
        ]  # fmt: skip
        self.process = subprocess.Popen(
            command, cwd=REPOSITORY, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True
        )
        self.waits, self.ready = threading.Event(), threading.Event()
        self.url = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if "standby" in line:
                self.waits.set()
            if line.strip().startswith("pages"):
                self.url = line.split()[1].rstrip("/")
            if "Ctrl-C stops it" in line:
                self.ready.set()

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(40)
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()


def takes_over(server: Server, standby: Standby) -> None:
    assert standby.waits.wait(30)
    server.call("/create_workspace/", name="kept")
    server.run("kept", "x = 1")
    assert not standby.ready.is_set()
    killed_at = time.monotonic()
    server.process.kill()
    server.process.wait(10)
    assert standby.ready.wait(60)
    print(f"taken over after {time.monotonic() - killed_at:.1f} s")
    assert httpx.post(f"{standby.url}/get_workspace/", json={}).json()["result"] == ["kept"]
    job = httpx.post(f"{standby.url}/get_finish/", json={"name": "kept", "job": 0}).json()
    assert job["result"] is True
    assert httpx.post(f"{standby.url}/destroy_workspace/", json={"name": "kept"}).status_code == 200
