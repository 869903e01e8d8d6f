"""A node for each server of the acceptance tests, so that they run with every worker on another machine.

`test_contract_suites.py` runs them on one machine of the test cluster, and names another one for the nodes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import httpx

from tfserve.cluster.identity import Authority

MACHINE = "TFSERVE_TEST_NODE"
"""The network namespace on which the nodes run."""
ADDRESSES = "TFSERVE_TEST_ADDRESSES"
"""Those of the machines of the server and of the nodes."""
READY_S = 30


def are_used() -> bool:
    return MACHINE in os.environ


def settings() -> dict[str, str]:
    """Those of a server whose workers all run on a node."""
    return {"TFSERVE_CLUSTER": "ray", "TFSERVE_HEAD_RUNS_WORKERS": "0"} if are_used() else {}


def start(url: str, data_dir: Path) -> subprocess.Popen[str]:
    """Returns when the server has a node."""
    head, address = os.environ[ADDRESSES].split()
    token = Authority.open(data_dir / "cluster").join_token()
    node = subprocess.Popen(
        [
            "ip", "netns", "exec", os.environ[MACHINE], sys.executable, "-m", "tfserve.cli", "node", f"{head}:7700",
            "--token", str(token), "--name", "other", "--folder", str(data_dir.parent / "other-machine"),
            "--host", address, "--port", "0",
        ],
        env={**os.environ, "TFSERVE_ALLOW_UNAUTHENTICATED": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
    )  # fmt: skip
    assert node.stdout is not None
    printed = []
    for line in node.stdout:
        printed.append(line)
        if "is ready" in line:
            break
    else:
        raise AssertionError(f"the node has ended: {''.join(printed)}")
    threading.Thread(target=node.stdout.read, daemon=True).start()
    revision = 0
    while True:
        answer = httpx.get(f"{url}/server/", params={"since": revision, "wait": READY_S}, timeout=READY_S + 10)
        found = answer.json()["result"]
        if any(each["name"] == "other" and each["state"] == "ready" for each in found["nodes"]):
            return node
        revision = found["revision"]


def stop(node: subprocess.Popen[str]) -> None:
    node.terminate()
    node.wait(60)
