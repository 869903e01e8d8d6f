"""The certificates of a cluster: only members can talk to each other, and the head recognises those that join."""

from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path

import pytest

from tfserve.cluster.identity import (
    Authority,
    Identity,
    JoinToken,
    NoJoinToken,
    member_name,
    new_key,
    pin_of,
    private_pem,
    public_pem,
)


def node(folder: Path, authority: Authority, name: str) -> Identity:
    key = new_key()
    member = Identity(folder)
    certificate = authority.sign(name, public_pem(key))
    member.write(ca=authority.ca.read_bytes(), certificate=certificate, key=private_pem(key))
    return member


def connected(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[str | None, str | None]:
    """The names that both ends see. Raises `ssl.SSLError` if one of them refuses the other."""
    ours, theirs = socket.socketpair()
    seen: list[str | None] = []

    def accept() -> None:
        with theirs, server.wrap_socket(theirs, server_side=True) as wrapped:
            seen.append(member_name(wrapped.getpeercert()))
            wrapped.sendall(b"x")

    def accept_or_close() -> None:
        try:
            accept()
        except OSError:
            theirs.close()

    thread = threading.Thread(target=accept_or_close)
    thread.start()
    try:
        with ours, client.wrap_socket(ours) as wrapped:
            if wrapped.recv(1) != b"x":
                raise ssl.SSLError("refused")
            return seen[0], member_name(wrapped.getpeercert())
    finally:
        thread.join()


def test_members_of_a_cluster_recognise_each_other(tmp_path: Path) -> None:
    head = Authority.open(tmp_path / "head")
    member = node(tmp_path / "node", head, "10.0.0.3")
    assert connected(head.server_context(), member.client_context()) == ("10.0.0.3", "head")
    assert connected(member.server_context(), head.client_context()) == ("head", "10.0.0.3")


def test_a_member_of_another_cluster_is_refused(tmp_path: Path) -> None:
    head, other = Authority.open(tmp_path / "head"), Authority.open(tmp_path / "other")
    for stranger in (other, node(tmp_path / "node", other, "10.0.0.3")):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            connected(head.server_context(), stranger.client_context())
        with pytest.raises((ssl.SSLError, ConnectionError)):
            connected(head.server_context(admits_strangers=True), stranger.client_context())


def test_only_the_port_for_joining_admits_clients_without_a_certificate(tmp_path: Path) -> None:
    head = Authority.open(tmp_path)
    stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    stranger.check_hostname = False
    stranger.load_verify_locations(head.ca)
    assert connected(head.server_context(admits_strangers=True), stranger) == (None, "head")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        connected(head.server_context(), stranger)


def test_a_node_can_not_sign_members(tmp_path: Path) -> None:
    head = Authority.open(tmp_path / "head")
    member = node(tmp_path / "node", head, "n")
    forger = Authority(tmp_path / "forger")
    forger.write(ca=member.certificate.read_bytes(), certificate=b"", key=b"")
    forger.ca_key.write_bytes(member.key.read_bytes())
    key = new_key()
    forged = Identity(tmp_path / "forged")
    certificate = forger.sign("m", public_pem(key)) + member.certificate.read_bytes()
    forged.write(ca=head.ca.read_bytes(), certificate=certificate, key=private_pem(key))
    with pytest.raises((ssl.SSLError, ConnectionError)):
        connected(head.server_context(), forged.client_context())


def test_the_authority_stays_the_same_and_is_private(tmp_path: Path) -> None:
    first, again = Authority.open(tmp_path / "cluster"), Authority.open(tmp_path / "cluster")
    assert str(first.join_token()) == str(again.join_token())
    assert (tmp_path / "cluster").stat().st_mode & 0o077 == 0
    assert all(file.stat().st_mode & 0o077 == 0 for file in (tmp_path / "cluster").iterdir())


def test_a_join_token_says_how_to_recognise_the_head(tmp_path: Path) -> None:
    head = Authority.open(tmp_path)
    token = JoinToken.parse(f" {head.join_token()}\n")
    assert token == head.join_token()
    assert token.head_pin == pin_of(head.certificate.read_bytes())
    for text in ("", "x", str(token)[:-4], f"{token}AAAA", "ü", "!" * 64):
        with pytest.raises(NoJoinToken, match="tfserve cluster token"):
            JoinToken.parse(text)
