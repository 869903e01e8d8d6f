"""The certificate of `--tls-self-signed`, kept in the data folder and used until it expires.

It is also made again when the settings name a host that it does not have.
"""

from __future__ import annotations

import hashlib
import socket
import ssl
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from tfserve.certificates import CertificateFiles, CertificateUnusable, server_context
from tfserve.config import Settings
from tfserve.durable_files import write_private
from tfserve.errors import Invalid

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

LIFETIME = timedelta(days=825)
"""The longest that all systems accept."""
RENEWED_BEFORE = timedelta(days=30)
CLOCK_SKEW = timedelta(hours=1)
LOOPBACK = ("localhost", "127.0.0.1", "::1")
ANY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104 - not listened on here


def with_certificate(settings: Settings) -> Settings:
    """The settings with the self-signed certificate, if they request one. Raises `Invalid`, `OSError`."""
    if not settings.tls_self_signed:
        return settings
    if settings.tls_cert:
        raise Invalid("tls_self_signed makes a certificate itself: don't set tls_cert and tls_key as well")
    folder = settings.data_path / "tls"
    files = CertificateFiles(folder / "self-signed.crt", folder / "self-signed.key")
    if not _is_usable(files, _configured_names(settings)):
        folder.mkdir(mode=0o700, exist_ok=True)
        _make(files, _configured_names(settings) | _machine_names())
    return replace(settings, tls_cert=str(files.certificate), tls_key=str(files.key))


def fingerprint(certificate: Path) -> str:
    """SHA-256 of a certificate as browsers and openssl print it."""
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate.read_text())).hexdigest().upper()
    return ":".join(digest[i : i + 2] for i in range(0, len(digest), 2))


def _configured_names(settings: Settings) -> set[str]:
    """The names and addresses by which clients reach the server, as far as the settings have them."""
    allowed = {name.strip().strip("[]").lower() for name in settings.allowed_hosts.split(",")}
    names = {*LOOPBACK, settings.host.lower(), *allowed} - {"", "*", *ANY_ADDRESS}
    return {_canonical(name) for name in names if name.isascii() and len(name) < 254}


def _canonical(name: str) -> str:
    """An address as certificates have it: in one notation, and without the interface (`fe80::1%eth0`)."""
    try:
        return str(ip_address(name.partition("%")[0]))
    except ValueError:
        return name


def _machine_names() -> set[str]:
    """The name and the addresses of this machine."""
    interfaces = psutil.net_if_addrs().values()
    families = (socket.AF_INET, socket.AF_INET6)
    addresses = {each.address.partition("%")[0] for found in interfaces for each in found if each.family in families}
    name = socket.gethostname().lower()
    return addresses | ({name} if name.isascii() else set())


def _is_usable(files: CertificateFiles, names: set[str]) -> bool:
    from cryptography import x509

    try:
        server_context(files)
        certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (CertificateUnusable, ValueError, x509.ExtensionNotFound):
        return False
    known = {str(name.value) for name in found}
    return names <= known and certificate.not_valid_after_utc - RENEWED_BEFORE > datetime.now(UTC)


def _make(files: CertificateFiles, names: set[str]) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _signed(key, names)
    # A crash between the two leaves a pair that does not match, so the next start makes both again.
    write_private(files.key, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    write_private(files.certificate, certificate.public_bytes(Encoding.PEM))


def _signed(key: EllipticCurvePrivateKey, names: set[str]) -> x509.Certificate:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "TFserve self-signed")])
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.SubjectAlternativeName([_general_name(each) for each in sorted(names)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _general_name(name: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
