"""The certificate files of TLS: checked when the server starts, and loaded again whenever they change."""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from tfserve.config import Settings
from tfserve.errors import Invalid

log = logging.getLogger(__name__)

T = TypeVar("T")

Version = tuple[int, int, int, int]
"""Identifies the content of a file: device, inode, time of the last change in ns, and size."""

CERTIFICATE, PRIVATE_KEY = "-----BEGIN CERTIFICATE-----", "PRIVATE KEY-----"
MAX_PEM_BYTES = 1024 * 1024


class CertificateUnusable(Invalid):
    """TLS can't be used with {file}: {problem}."""


@dataclass(frozen=True)
class CertificateFiles:
    """The PEM files of a server: its certificate with the chain, the key, and the CA of its clients, if any."""

    certificate: Path
    key: Path
    client_ca: Path | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        return (self.certificate, self.key, *filter(None, (self.client_ca,)))

    def versions(self) -> tuple[Version | None, ...]:
        return tuple(map(_version, self.paths))


def files_of(settings: Settings) -> CertificateFiles | None:
    """The certificate files in the settings. None if the server doesn't use TLS."""
    if not settings.tls_cert:
        return None
    client_ca = Path(settings.tls_client_ca) if settings.tls_client_ca else None
    return CertificateFiles(Path(settings.tls_cert), Path(settings.tls_key), client_ca)


def server_context(files: CertificateFiles, protocols: Sequence[str] = ("http/1.1",)) -> ssl.SSLContext:
    """A context for the server's side of TLS 1.2 and 1.3, or 1.3 only with client certificates.

    Raises `CertificateUnusable`.
    """
    for path in files.paths:
        _check(path, PRIVATE_KEY if path == files.key else CERTIFICATE)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(protocols)
    _load_pair(context, files)
    if files.client_ca is not None:
        _require_client_certificates(context, files.client_ca)
    return context


def _load_pair(context: ssl.SSLContext, files: CertificateFiles) -> None:
    def refuse_encrypted_key() -> bytes:
        raise CertificateUnusable(
            file=str(files.key), problem="the key is encrypted. Decrypt it: openssl pkey -in KEY -out DECRYPTED"
        )

    try:
        context.load_cert_chain(files.certificate, files.key, password=refuse_encrypted_key)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise CertificateUnusable(
                file=str(files.certificate), problem=f"the key in {files.key} belongs to another certificate"
            ) from None
        both = f"{files.certificate} and {files.key}"
        raise CertificateUnusable(file=both, problem=f"OpenSSL can't read them ({_reason(error)})") from None


def _require_client_certificates(context: ssl.SSLContext, client_ca: Path) -> None:
    try:
        context.load_verify_locations(client_ca)
    except ssl.SSLError as error:
        raise CertificateUnusable(file=str(client_ca), problem=f"OpenSSL can't read it ({_reason(error)})") from None
    context.verify_mode = ssl.CERT_REQUIRED
    # A resumed session would not be checked against a changed CA file. In TLS 1.2 it can't be switched off.
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0


class Reloading(Generic[T]):
    """What was loaded from the certificate files. After they have changed, they are loaded again.

    The previous state stays in use as long as the new files can't be used, for example because only one of them has
    been replaced yet.
    """

    def __init__(self, files: CertificateFiles, load: Callable[[CertificateFiles], T]) -> None:
        """Raises `CertificateUnusable`."""
        self._files = files
        self._load = load
        self._versions = files.versions()
        self.current = load(files)

    def reload(self) -> bool:
        """Loads the files if they have changed since the last call. Returns whether `current` is new."""
        versions = self._files.versions()
        if versions == self._versions:
            return False
        self._versions = versions
        try:
            self.current = self._load(self._files)
        except CertificateUnusable as error:
            log.error("%s The previous certificate stays in use.", error.message)
            return False
        log.info("loaded the new TLS certificate %s", self._files.certificate)
        return True


def _version(path: Path) -> Version | None:
    try:
        found = os.stat(path)  # noqa: PTH116 (at every handshake)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


def _check(path: Path, content: str) -> None:
    """Raises `CertificateUnusable` if the file can't be read or has no such content."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_PEM_BYTES).decode("latin-1")
    except OSError as error:
        raise CertificateUnusable(file=str(path), problem=str(error.strerror)) from None
    if content not in text:
        what = "a private key" if content == PRIVATE_KEY else "a certificate"
        raise CertificateUnusable(file=str(path), problem=f"expected {what} in PEM format (a line {content})")


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).replace("_", " ").lower()
