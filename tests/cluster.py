"""Certificates of members of a cluster, for tests."""

from __future__ import annotations

from pathlib import Path

from tfserve.cluster.identity import Authority, Identity, new_key, private_pem, public_pem
from tfserve.cluster.membership import Membership


def identity_of(folder: Path, authority: Authority, name: str) -> Identity:
    """The certificate of a node, signed by the head."""
    key = new_key()
    member = Identity(folder)
    certificate = authority.sign(name, public_pem(key))
    member.write(ca=authority.ca.read_bytes(), certificate=certificate, key=private_pem(key))
    return member


def membership_of(folder: Path, authority: Authority, name: str, address: str = "127.0.0.1") -> Membership:
    return Membership(identity_of(folder / name, authority, name), name, address)
