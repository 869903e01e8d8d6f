"""Measures how soon a worker's death is reported, and how soon the next job has run."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from typing import Any

import httpx

WORKSPACE = "probe"
ENDLESS = "print('begun', flush=True)\nwhile True: pass"
TIMEOUT_S = 60.0


class Probe:
    """`reported_s` and `next_job_s` are the times since the kill, of every measurement that was not disturbed."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.reported_s: list[float] = []
        self.next_job_s: list[float] = []

    def measure(self) -> None:
        with contextlib.suppress(httpx.HTTPError, KeyError, ProcessLookupError, ValueError):
            self._measure()

    def _measure(self) -> None:
        endless = self._in_background(ENDLESS)
        pid = self._pid_of_running()
        following = self._in_background("x = 1")
        os.kill(pid, signal.SIGKILL)
        killed_at = time.monotonic()
        results = [each() for each in (endless, following)]
        if all(result is not None for _, result in results):
            (reported_at, first), (next_at, second) = results
            if (first["state"], second["state"]) == ("lost", "succeeded"):
                self.reported_s.append(reported_at - killed_at)
                self.next_job_s.append(next_at - killed_at)

    def _pid_of_running(self) -> int:
        """Of the worker, as soon as its job prints. Raises ValueError if that does not happen."""
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            status = self._post("/get_status/", {"name": WORKSPACE})["result"]
            if status["running"] and status["pid"] is not None:
                job = status["running"][0]["id"]
                if "begun" in httpx.get(f"{self._url}/jobs/{job}/output", timeout=TIMEOUT_S).text:
                    return int(status["pid"])
            time.sleep(0.02)
        raise ValueError("the job does not run")

    def _post(self, path: str, fields: dict[str, Any]) -> Any:
        return httpx.post(f"{self._url}{path}", json=fields, timeout=TIMEOUT_S).json()

    def _in_background(self, script: str) -> Any:
        """Submits a script; the function that is returned waits for its end."""
        ended: list[tuple[float, Any]] = []

        def send() -> None:
            with contextlib.suppress(httpx.HTTPError, KeyError, ValueError):
                fields = {"name": WORKSPACE, "job": script, "type": 1, "timeout": TIMEOUT_S}
                result = self._post("/push_job/", fields)["result"]
                ended.append((time.monotonic(), result if isinstance(result, dict) else None))

        thread = threading.Thread(target=send)
        thread.start()

        def wait() -> tuple[float, Any]:
            thread.join()
            return ended[0] if ended else (0.0, None)

        return wait
