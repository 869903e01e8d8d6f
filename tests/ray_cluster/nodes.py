"""A node for each server of the acceptance tests, so that they run with every worker on another machine.

`test_contract_suites.py` runs them on one machine of the test cluster, and names another one for the nodes.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import ClassVar

import httpx

from tfserve.cluster.identity import Authority

MACHINE = "TFSERVE_TEST_NODE"
"""The network namespace on which the nodes run."""
ADDRESSES = "TFSERVE_TEST_ADDRESSES"
"""Those of the machines of the server and of the nodes."""
READY_S = 30
_free_ports = itertools.count(7700, 10)
_ports: dict[Path, int] = {}
"""The cluster port of the servers on a data folder."""


def are_used() -> bool:
    return MACHINE in os.environ


def settings(data_dir: Path) -> dict[str, str]:
    """Those of a server whose workers all run on a node. Several servers may run at a time."""
    if not are_used():
        return {}
    if data_dir not in _ports:
        _ports[data_dir] = next(_free_ports)
    port = _ports[data_dir]
    return {
        "TFSERVE_CLUSTER": "ray", "TFSERVE_HEAD_RUNS_WORKERS": "0", "TFSERVE_CLUSTER_PORT": str(port),
        "TFSERVE_CLUSTER_HTTP_PORT": str(port + 1),
    }  # fmt: skip


def node_of(data_dir: Path, url: str) -> Node:
    """The node of the servers on a data folder, once the server knows that it is ready. It outlives a server."""
    node = Node.running.get(data_dir)
    if node is not None and node.process.poll() is not None:
        node.close()
        node = None
    if node is None:
        node = Node.running[data_dir] = Node(data_dir)
    _until_known(url)
    return node


def is_folder(printed: str, folder: str) -> bool:
    """Whether a script has printed the path of this folder: on a node, that of its copy."""
    return "/mirrors/" in printed if are_used() else printed == folder


class Node:
    """`tfserve node` on the other machine."""

    running: ClassVar[dict[Path, Node]] = {}

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        head, address = os.environ[ADDRESSES].split()
        token = Authority.open(data_dir / "cluster").join_token()
        self.process = subprocess.Popen(
            [
                "ip", "netns", "exec", os.environ[MACHINE], sys.executable, "-m", "tfserve.cli", "node",
                f"{head}:{_ports[data_dir]}", "--token", str(token), "--name", "other",
                "--folder", str(data_dir.parent / "other-machine"), "--host", address, "--port", "0",
            ],
            env={**os.environ, "TFSERVE_ALLOW_UNAUTHENTICATED": "1"},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        )  # fmt: skip
        self._is_ready = threading.Event()
        self._printed: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        assert self._is_ready.wait(READY_S), self._printed

    def close(self) -> None:
        if Node.running.pop(self._data_dir, None) is None:
            return
        self.process.terminate()
        self.process.wait(60)
        self._reader.join(5)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._printed.append(line)
            if "is ready" in line:
                self._is_ready.set()


def _until_known(url: str) -> None:
    revision, ready = 0, False
    while not ready:
        answer = httpx.get(
            f"{url}/server/", params={"since": revision, "wait": READY_S}, timeout=READY_S + 10, verify=False
        )
        found = answer.json()["result"]
        ready = any(each["name"] == "other" and each["state"] == "ready" for each in found["nodes"])
        revision = found["revision"]
