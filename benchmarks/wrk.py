"""Runs wrk, the client of all rows: written in C, it takes little of the cores that it shares with the server."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.requests import Request

# A request is built once, from a file; a closing line of JSON says what was seen. Times are microseconds.
SCRIPT = """
wrk.method = "POST"
wrk.body = io.open({body}, "rb"):read("*a")
{headers}
function done(summary, latency, requests)
  local failed = summary.errors
  io.write(string.format(
    '\\n{{"count": %d, "took_us": %d, "status": %d, "connect": %d, "read": %d, "write": %d, "timeout": %d, ' ..
    '"p50_us": %.1f, "p99_us": %.1f}}\\n',
    summary.requests, summary.duration, failed.status, failed.connect, failed.read, failed.write, failed.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"""


@dataclass
class Seen:
    """What wrk saw in one run; `failed` are answers that are not 2xx and requests without an answer."""

    requests: int
    rate: float
    p50_ms: float
    p99_ms: float
    failed: int


def missing() -> str | None:
    return None if shutil.which("wrk") else "wrk is missing: apt-get install wrk"


def run(url: str, request: Request, folder: Path, *, connections: int, seconds: float) -> Seen:
    """Keeps so many connections busy for so many seconds, each with one request at a time."""
    script = write_script(request, folder)
    options = ["--threads", "1", "--connections", str(connections), "--duration", f"{max(1, round(seconds))}s"]
    # Twenty seconds: with 32 connections the slowest peers take longer for one answer than wrk's own two seconds.
    command = ["wrk", *options, "--timeout", "20s", "--script", str(script), url + request.path]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return read(output)


def write_script(request: Request, folder: Path) -> Path:
    body, script = folder / "body", folder / "request.lua"
    body.write_bytes(request.body)
    headers = "\n".join(f"wrk.headers[{lua(name)}] = {lua(value)}" for name, value in request.headers.items())
    script.write_text(SCRIPT.format(body=lua(str(body)), headers=headers))
    return script


def lua(text: str) -> str:
    return json.dumps(text)


def read(output: str) -> Seen:
    seen = json.loads(output.strip().splitlines()[-1])
    failed = sum(seen[kind] for kind in ("status", "connect", "read", "write", "timeout"))
    answered = seen["count"] - seen["status"]
    return Seen(
        max(1, seen["count"]), answered / seen["took_us"] * 1e6, seen["p50_us"] / 1000, seen["p99_us"] / 1000, failed
    )
