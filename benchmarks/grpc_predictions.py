"""Measures gRPC, version 2: the small network at 1 and at 32 calls in flight, with h2load and with Python's own client.

Python's client takes more of the two cores than the server does; what is between the two is the client's cost.

python -m benchmarks.grpc_predictions                     8 seconds each
python -m benchmarks.grpc_predictions --runtime auto      when the fastest runtime has been chosen
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import grpc
from rich.console import Console

from benchmarks import h2load
from benchmarks.grpc_load import INFER
from benchmarks.participants import free_port
from benchmarks.predictions import models
from benchmarks.requests import CheckedCall, Samples, v2_grpc
from benchmarks.server_process import REPOSITORY, ServerProcess
from benchmarks.tfserve_participant import deploy, wait_until_chosen

NAME = "small"
GOAL = 10_000

console = Console()


def main() -> int:
    options = parse()
    samples, port = Samples(models()), free_port()
    address = f"127.0.0.1:{port}"
    body = v2_grpc(NAME, samples.numbers("small-json"))
    with (
        tempfile.TemporaryDirectory(dir=REPOSITORY, prefix=".bench-") as folder,
        ServerProcess(Path(folder), "--grpc-port", str(port)) as server,
    ):
        deploy(server, NAME, models() / NAME, options.runtime)
        if options.runtime == "auto":
            wait_until_chosen(server, NAME)
        check(address, body, samples.expected("small-json"))
        server.wait_for_spare()
        server.processes.wait_until_idle()
        measure(address, body, calls=32, seconds=options.seconds / 4)  # the warm-up
        folders = Path(folder)
        light = [load(server, address, body, folders, calls=calls, seconds=options.seconds) for calls in (1, 32)]
        seen = {calls: measure(address, body, calls=calls, seconds=options.seconds) for calls in (1, 32)}
    for line in light:
        console.print(line, highlight=False, soft_wrap=True)
    return tell(seen)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--quick", action="store_true", help="3 seconds each")
    parser.add_argument("--runtime", default="tensorflow")
    options = parser.parse_args()
    options.seconds = 3 if options.quick else options.seconds
    return options


def check(address: str, body: bytes, expected: Any) -> None:
    """One answer; raises ValueError when it is not TensorFlow's."""
    with grpc.insecure_channel(address) as channel:
        CheckedCall(body, expected).read(channel.unary_unary(INFER)(body, timeout=60))


def load(server: ServerProcess, address: str, body: bytes, folder: Path, *, calls: int, seconds: float) -> str:
    """By h2load; the server's own count says that the calls were answered with outputs, which h2load does not see."""
    if reason := h2load.missing():
        return reason
    server.processes.wait_until_idle()
    before, cpu_s = answered(server), server.processes.cpu_s_by_role()
    seen = h2load.run(address, INFER, body, folder, calls=calls, seconds=seconds)
    used = {role: after - cpu_s[role] for role, after in server.processes.cpu_s_by_role().items()}
    cpu = ", ".join(f"{role} {used[role] / seen.answered * 1e6:.1f}" for role in ("web", "worker"))
    if answered(server) - before < seen.answered:
        raise RuntimeError(f"{seen.answered} answers came, but only {answered(server) - before} had outputs")
    return (
        f"gRPC v2, small network, h2load, {calls} in flight: {seen.rate:.0f}/s, p50 {seen.p50_ms:.2f} ms,"
        f" p99 {seen.p99_ms:.2f} ms, {seen.failed} failed, µs of a core for each call: {cpu} (goal: {GOAL}/s at 32)"
    )


def answered(server: ServerProcess) -> int:
    told = server.http.get(f"/v2/models/{NAME}/stats").json()["model_stats"][0]
    return int(told["inference_stats"]["success"]["count"])


def measure(address: str, body: bytes, *, calls: int, seconds: float) -> Any:
    command = [sys.executable, "-m", "benchmarks.grpc_load", address, "--calls", str(calls), "--seconds", str(seconds)]
    done = subprocess.run(command, input=body, stdout=subprocess.PIPE, cwd=REPOSITORY, check=True)
    return json.loads(done.stdout)


def tell(seen: dict[int, Any]) -> int:
    """The exit code: 0 when no call failed."""
    for calls, one in seen.items():
        console.print(
            f"gRPC v2, small network, Python's client, {calls} in flight: {one['rate']:.0f}/s,"
            f" p50 {one['p50_ms']:.2f} ms, p99 {one['p99_ms']:.2f} ms, {one['failed']} failed (goal: {GOAL}/s at 32)",
            highlight=False,
            soft_wrap=True,
        )
        for failure in one["failures"]:
            console.print(f"  {failure}", highlight=False, markup=False)
    return 1 if any(one["failed"] for one in seen.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
