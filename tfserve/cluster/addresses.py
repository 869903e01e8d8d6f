"""Where a replica takes predictions, as one string that the supervisor announces.

On a single machine it is the name of a Unix socket. In a cluster, `tls://10.0.0.3:41234/big/NAME` says that the replica
runs on the node `big`, whose processes reach it at the Unix socket NAME and all others at 10.0.0.3:41234.
"""

from __future__ import annotations

import re
from typing import NamedTuple

SCHEME = "tls://"
_FORM = re.compile(
    r"tls://(?:\[(?P<v6>[^\]]+)\]|(?P<host>[^:/]+)):(?P<port>\d+)/(?P<node>[^/]+)/(?P<unix>.+)", re.DOTALL
)


class ReplicaAddress(NamedTuple):
    """`port` is 0 for a replica that only this machine reaches."""

    unix: str
    node: str = ""
    host: str = ""
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> ReplicaAddress:
        """Raises `ValueError`."""
        if not text.startswith(SCHEME):
            return cls(text)
        found = _FORM.fullmatch(text)
        if found is None:
            raise ValueError(f"expected tls://HOST:PORT/NODE/NAME, got {text!r}")
        return cls(found["unix"], found["node"], found["v6"] or found["host"], int(found["port"]))

    def __str__(self) -> str:
        if not self.port:
            return self.unix
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{SCHEME}{host}:{self.port}/{self.node}/{self.unix}"

    def is_near(self, node: str | None) -> bool:
        """Whether a process on `node` (None outside of a cluster) reaches the replica by its Unix socket."""
        return not self.port or self.node == node
