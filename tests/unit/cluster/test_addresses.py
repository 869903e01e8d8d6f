"""The address of a replica says how each process reaches it."""

from __future__ import annotations

import pytest

from tfserve.cluster.addresses import ReplicaAddress

UNIX = "\0tfserve-12-ab/c-1"


@pytest.mark.parametrize(
    "address",
    [
        ReplicaAddress(UNIX),
        ReplicaAddress(UNIX, "big", "10.0.0.3", 41234),
        ReplicaAddress(UNIX, "head", "fe80::1", 1),
        ReplicaAddress("a\nb", "köln", "node.example", 65535),
    ],
)
def test_an_address_is_read_as_it_was_written(address: ReplicaAddress) -> None:
    assert ReplicaAddress.parse(str(address)) == address


def test_only_processes_of_the_same_node_use_the_unix_socket() -> None:
    remote = ReplicaAddress(UNIX, "big", "10.0.0.3", 41234)
    assert remote.is_near("big")
    assert not remote.is_near("small")
    assert not remote.is_near(None)
    assert ReplicaAddress(UNIX).is_near(None)
    assert ReplicaAddress(UNIX).is_near("big")


@pytest.mark.parametrize("text", ["tls://", "tls://10.0.0.3/big/x", "tls://10.0.0.3:x/big/x", "tls://10.0.0.3:1/big/"])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="tls://HOST:PORT/NODE/NAME"):
        ReplicaAddress.parse(text)
