"""Certificates for tests."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True)
class Pair:
    """A certificate for localhost with its key in files."""

    certificate: Path
    key: Path

    @property
    def options(self) -> tuple[str, ...]:
        return "--tls-cert", str(self.certificate), "--tls-key", str(self.key)

    def replace_by(self, other: Pair) -> None:
        """As certbot does: first one file, then the other."""
        for mine, theirs in ((self.certificate, other.certificate), (self.key, other.key)):
            temporary = mine.with_suffix(".new")
            temporary.write_bytes(theirs.read_bytes())
            temporary.replace(mine)


class Authority:
    """A CA that signs for localhost and for clients."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._ca = trustme.CA()
        self.file = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(str(self.file))

    def pair(self, name: str, *names: str) -> Pair:
        signed = self._ca.issue_cert(*(names or ("localhost", "127.0.0.1")), common_name=name)
        pair = Pair(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        pair.certificate.write_bytes(b"".join(each.bytes() for each in signed.cert_chain_pems))
        signed.private_key_pem.write_to_path(str(pair.key))
        return pair

    def trust(self, client: Pair | None = None) -> ssl.SSLContext:
        """A client's context that trusts this CA."""
        context = ssl.create_default_context(cafile=self.file)
        if client is not None:
            context.load_cert_chain(client.certificate, client.key)
        return context
