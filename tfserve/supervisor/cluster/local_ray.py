"""A Ray that this head starts for itself, for `--cluster ray`: its GCS, and the raylet that the driver needs."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from tfserve.cluster.identity import HEAD
from tfserve.config import Settings
from tfserve.supervisor.cluster.own_address import host_of
from tfserve.supervisor.processes.child import OWNER, Child, Role
from tfserve.supervisor.processes.restarts import Restarts

log = logging.getLogger(__name__)

WORKER_PORTS = 10_000
AFTER_CLUSTER_PORT = 2
"""The port of Ray's GCS, counted from the cluster port. The one between them is for forwarded requests."""
LOG = "ray.log"
DISABLED = "--disable-usage-stats", "--include-dashboard=false"


class LocalRay:
    """Keeps it alive, at the same address. Its tables are on the disk, so that nodes stay when it starts again."""

    def __init__(self, settings: Settings, owner: str, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._settings = settings
        self._owner = owner
        self._child: Child | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._restarts = Restarts()
        self._port = 0
        #: why it ended the last time
        self.problem = ""
        self._address = host_of(settings)

    async def begin(self) -> str:
        """The address of its GCS."""
        self._port = _port(self._folder / "port", self._settings.cluster_port)
        self._keeper = asyncio.get_running_loop().create_task(self._keep())
        return f"{self._address}:{self._port}"

    async def close(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        if self._child is not None and self._child.alive:
            self._child.kill("the server is stopping")
            await asyncio.shield(self._child.ended)

    @property
    def _folder(self) -> Path:
        folder = self._settings.data_path / "cluster" / "ray"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @property
    def _kept_tables(self) -> dict[str, str]:
        """Keeps Ray's tables on the disk. The nodes in them can be reached only by a Ray at the same address."""
        path = self._folder / f"tables-{self._address.replace(':', '-')}"
        return {"RAY_gcs_storage": "rocksdb", "RAY_gcs_storage_path": str(path)}

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self._restarts.delay_s(time.monotonic()))
            started_at = time.monotonic()
            try:
                self._child = self._start()
                ended = await asyncio.shield(self._child.ended)
                self.problem = f"it ended: {ended.sentence}; see {self._folder / LOG}"
            except OSError as error:
                self.problem = f"it can't be started: {error}"
            log.error("Ray: %s", self.problem)
            self._restarts.died(now=time.monotonic(), lived_s=time.monotonic() - started_at)

    def _start(self) -> Child:
        temporary = Path(_short(self._folder))
        # Otherwise Ray refuses to start while a node on the same machine still waits for it.
        (temporary / "ray_current_cluster").unlink(missing_ok=True)
        with (self._folder / LOG).open("ab") as output:
            return Child.start(
                [
                    sys.executable, "-P", "-m", "ray.scripts.scripts", "start", "--head", "--block", *DISABLED,
                    f"--node-ip-address={self._address}", f"--port={self._port}", "--num-cpus=0", "--num-gpus=0",
                    "--object-store-memory=80000000", *_worker_ports(self._port),
                    f"--temp-dir={temporary}", f"--labels=tfserve-node={HEAD}",
                ],
                role=Role.RAY,
                environment={**os.environ, OWNER: self._owner, **self._environment, **self._kept_tables},
                output=output,
            )  # fmt: skip


def _worker_ports(gcs_port: int) -> list[str]:
    """Ray refuses to start if the port of its GCS is among those of its workers, 10002 to 19999 by default."""
    first = WORKER_PORTS + 10_000 if WORKER_PORTS <= gcs_port < WORKER_PORTS + 10_000 else WORKER_PORTS
    return [f"--min-worker-port={first + 2}", f"--max-worker-port={first + 9_999}"]


def _port(file: Path, cluster_port: int) -> int:
    """The same port at every start, because the nodes know it."""
    if cluster_port:
        return cluster_port + AFTER_CLUSTER_PORT
    if file.is_file():
        return int(file.read_text())
    with socket.socket() as sock:
        sock.bind(("", 0))
        port = int(sock.getsockname()[1])
    file.write_text(str(port))
    return port


def _short(folder: Path) -> str:
    """Ray's Unix sockets have long names, and the limit of a path is 107 bytes."""
    return str(folder) if len(str(folder)) < 40 else f"/tmp/tfserve-ray-{abs(hash(str(folder))) % 10**8}"  # noqa: S108
