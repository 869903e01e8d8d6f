"""h2load (`apt-get install nghttp2-client`) as a gRPC client: as light as wrk is for HTTP."""

from __future__ import annotations

import shutil
import statistics
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

CALLS_OF_A_CONNECTION = 16


@dataclass
class Seen:
    """What h2load saw; `answered` calls came back with HTTP's 200, `failed` did not come back so.

    A gRPC status stands behind the answer, where h2load does not look: whoever measures asks the server for it.
    """

    rate: float
    p50_ms: float
    p99_ms: float
    answered: int
    failed: int


def missing() -> str | None:
    return None if shutil.which("h2load") else "h2load is missing: apt-get install nghttp2-client"


def run(address: str, method: str, message: bytes, folder: Path, *, calls: int, seconds: float) -> Seen:
    """Keeps so many calls in flight for so many seconds, spread over a few connections."""
    body, log = folder / "message", folder / "calls.tsv"
    body.write_bytes(struct.pack(">BI", 0, len(message)) + message)
    log.unlink(missing_ok=True)
    connections = -(-calls // CALLS_OF_A_CONNECTION)
    command = ["h2load", "--clients", str(connections), "--max-concurrent-streams", str(calls // connections)]
    command += ["--duration", str(max(1, round(seconds))), "--data", str(body), "--log-file", str(log)]
    command += ["--header", "content-type: application/grpc", "--header", "te: trailers"]
    subprocess.run([*command, f"http://{address}{method}"], stdout=subprocess.DEVNULL, check=True)
    return read(log.read_text(), seconds=max(1, round(seconds)))


def read(log: str, *, seconds: int) -> Seen:
    """A line for each call: when it began, HTTP's status, and how long it took, in microseconds."""
    rows = [line.split("\t") for line in log.splitlines()]
    times = sorted(int(took) / 1000 for _, status, took in rows if status == "200")
    if not times:
        raise ValueError(f"no call was answered, {len(rows)} failed")
    p99 = statistics.quantiles(times, n=100)[98] if len(times) > 1 else times[0]
    return Seen(len(times) / seconds, statistics.median(times), p99, len(times), len(rows) - len(times))
