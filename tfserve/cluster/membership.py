"""What a process knows about the machine that it runs on: its node, its address, and its certificate.

The head and the nodes set it in the environment of the processes that they start.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tfserve.cluster.identity import Identity

IDENTITY = "TFSERVE_CLUSTER_IDENTITY"
"""The folder of the machine's certificate."""
NODE = "TFSERVE_NODE"
"""The name of the node. That of the head is `head`."""
ADDRESS = "TFSERVE_NODE_ADDRESS"
"""The address at which other machines reach this one."""


@dataclass(frozen=True)
class Membership:
    """This machine as a member of a cluster."""

    identity: Identity
    node: str
    address: str

    @classmethod
    def of_environment(cls, environ: Mapping[str, str] = os.environ) -> Membership | None:
        """None on a machine that belongs to no cluster."""
        folder, node, address = environ.get(IDENTITY), environ.get(NODE), environ.get(ADDRESS)
        return cls(Identity(Path(folder)), node, address) if folder and node and address else None

    @property
    def environment(self) -> dict[str, str]:
        """The environment with which a child process finds the same membership."""
        return {IDENTITY: str(self.identity.folder), NODE: self.node, ADDRESS: self.address}

    def client_context(self) -> ssl.SSLContext:
        return self.identity.client_context()
