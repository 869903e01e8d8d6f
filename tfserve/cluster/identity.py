"""The certificates of one cluster: a CA of its own, and a certificate for the head and for each node.

Every connection between machines uses TLS 1.3 with certificates of this CA at both ends, so only members of the cluster
can talk to each other. A node gets its certificate when it joins, with the join token of the head.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from tfserve.durable_files import write_private
from tfserve.errors import Invalid

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

LIFETIME = timedelta(days=3650)
CLOCK_SKEW = timedelta(hours=1)
HEAD = "head"
"""The name of the head in its certificate, and as a node."""
SECRET_BYTES = 16
PIN_BYTES = 32


class NoJoinToken(Invalid):
    """This is not a join token of a cluster. `tfserve cluster token` on the head prints it."""


@dataclass(frozen=True)
class JoinToken:
    """What a machine needs to join: how to recognise the head, and the secret by which the head recognises it."""

    head_pin: bytes
    """SHA-256 of the certificate of the head."""
    secret: bytes

    def __str__(self) -> str:
        return base64.urlsafe_b64encode(self.head_pin + self.secret).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> JoinToken:
        """Raises `NoJoinToken`."""
        try:
            data = base64.urlsafe_b64decode(text.strip() + "=" * (-len(text.strip()) % 4))
        except (ValueError, binascii.Error):
            raise NoJoinToken from None
        if len(data) != PIN_BYTES + SECRET_BYTES:
            raise NoJoinToken
        return cls(data[:PIN_BYTES], data[PIN_BYTES:])


@dataclass(frozen=True)
class Identity:
    """The files of a member: in `data_dir/cluster` on the head, in the node's folder on a node."""

    folder: Path

    @property
    def ca(self) -> Path:
        return self.folder / "ca.crt"

    @property
    def certificate(self) -> Path:
        return self.folder / "member.crt"

    @property
    def key(self) -> Path:
        return self.folder / "member.key"

    @property
    def is_complete(self) -> bool:
        return all(path.is_file() for path in (self.ca, self.certificate, self.key))

    def server_context(self, *, admits_strangers: bool = False) -> ssl.SSLContext:
        """For the accepting side. Only the port at which nodes join admits clients without a certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = ssl.CERT_OPTIONAL if admits_strangers else ssl.CERT_REQUIRED
        return self._loaded(context)

    def client_context(self) -> ssl.SSLContext:
        """For the connecting side. Members are recognised by their CA, not by an address."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        return self._loaded(context)

    def _loaded(self, context: ssl.SSLContext) -> ssl.SSLContext:
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(self.certificate, self.key)
        context.load_verify_locations(self.ca)
        return context

    def write(self, *, ca: bytes, certificate: bytes, key: bytes) -> None:
        """Writes the files; only this user may read them."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path, content in ((self.key, key), (self.certificate, certificate), (self.ca, ca)):
            write_private(path, content)


@dataclass(frozen=True)
class Authority(Identity):
    """The identity of the head, which signs those of the nodes."""

    @property
    def ca_key(self) -> Path:
        return self.folder / "ca.key"

    @property
    def secret(self) -> bytes:
        """What the join token and the tokens of workers are made of."""
        return (self.folder / "secret").read_bytes()

    @classmethod
    def open(cls, folder: Path) -> Authority:
        """The authority in this folder; a new one if it is missing."""
        found = cls(folder)
        if not (found.is_complete and found.ca_key.is_file() and (folder / "secret").is_file()):
            found._create()
        return found

    def join_token(self) -> JoinToken:
        return JoinToken(pin_of(self.certificate.read_bytes()), self.secret[:SECRET_BYTES])

    def sign(self, name: str, public_key: bytes) -> bytes:
        """A certificate (PEM) for the node `name` with this public key (PEM). Raises `ValueError` for other keys."""
        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

        ca = x509.load_pem_x509_certificate(self.ca.read_bytes())
        ca_key = load_pem_private_key(self.ca_key.read_bytes(), None)
        public = load_pem_public_key(public_key)
        if not isinstance(public, EllipticCurvePublicKey):
            raise ValueError("not an elliptic curve key")
        return _pem(_builder(name, ca.subject.rfc4514_string(), public, is_ca=False), ca_key)

    def _create(self) -> None:
        from cryptography.hazmat.primitives.asymmetric import ec

        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        ca_key = ec.generate_private_key(ec.SECP256R1())
        name = f"CN=TFserve cluster {secrets.token_hex(4)}"
        ca = _pem(_builder(name[3:], name, ca_key.public_key(), is_ca=True), ca_key)
        write_private(self.ca_key, private_pem(ca_key))
        write_private(self.ca, ca)
        key = ec.generate_private_key(ec.SECP256R1())
        self.write(ca=ca, certificate=self.sign(HEAD, public_pem(key)), key=private_pem(key))
        write_private(self.folder / "secret", secrets.token_bytes(32))


def pin_of(certificate: bytes) -> bytes:
    """SHA-256 of a certificate (PEM)."""
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate.decode())).digest()


def new_key() -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def private_pem(key: EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_pem(key: EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def member_name(transport_cert: dict[str, object] | None) -> str | None:
    """The name in the certificate of a peer, as `ssl` returns it; None without one."""
    subject = (transport_cert or {}).get("subject", ())
    for parts in subject:  # type: ignore[attr-defined]  # a tuple of tuples of pairs
        for key, value in parts:
            if key == "commonName":
                return str(value)
    return None


def _builder(name: str, issuer: str, public: object, *, is_ca: bool) -> x509.CertificateBuilder:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    now = datetime.now(UTC)
    usage = x509.KeyUsage(
        digital_signature=not is_ca, key_cert_sign=is_ca, crl_sign=is_ca, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name.from_rfc4514_string(issuer))
        .public_key(public)  # type: ignore[arg-type]  # of this module's own keys
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=0 if is_ca else None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)  # type: ignore[arg-type]
    )


def _pem(builder: x509.CertificateBuilder, key: object) -> bytes:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding

    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)  # type: ignore[arg-type]
