"""Where callbacks may go: no URL of a client reaches into networks that only the server can reach."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from tfserve.callback_addresses import CallbackAddresses, CallbackRefused, target_of
from tfserve.config import load
from tfserve.errors import Invalid


def addresses(host: str = "203.0.113.7", *, is_open: bool = True, **settings: Any) -> CallbackAddresses:
    return CallbackAddresses.of(load({"host": host, **settings}, environ={}), is_open=is_open)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254",
        "192.0.0.1", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "240.0.0.1",
        "255.255.255.255", "::", "::1", "fe80::1", "fc00::1", "fd12:3456::1", "ff02::1", "2001:db8::1",
        "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::", "2002:a00:1::", "fec0::1",
    ],
)  # fmt: skip
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    assert not addresses().allows(ip_address(address), "evil.example.com")
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(CallbackRefused, match="callback_allow"):
        addresses().check(f"http://{host}:8080/hook")


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "017700000001", "127.1", "0", "0xa9.0xfea9fe"])
def test_an_address_in_another_notation_is_refused_at_once(host: str) -> None:
    with pytest.raises(CallbackRefused, match=f"{host}/hook is not a public address"):
        addresses().check(f"http://{host}/hook")


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "64:ff9b::808:808"])
def test_a_public_address_is_allowed(address: str) -> None:
    assert addresses().allows(ip_address(address), "app.example.com")


@pytest.mark.parametrize(
    "url",
    [
        "", "hook", "/hook", "ftp://example.com/", "file:///etc/passwd", "gopher://example.com/", "http://", "http:///x",
        "http://user@example.com/", "http://user:secret@example.com/", "http://example.com:0/",
        "http://example.com:99999/", "http://[::1/", "http://exa mple.com/", "http://example.com/\r\nHost: x",
        "http://example.com\\@10.0.0.1/", "http://例え.jp/", "http://example.com/" + "x" * 2000,
        "http://a..b/", "http://.example.com/", "http://example.com../", f"http://{'x' * 64}.com/",
        f"http://{'x.' * 127}com/",
    ],
)  # fmt: skip
def test_a_url_that_can_not_be_used_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(Invalid, match=r"https://app\.example\.com/hook"):
        target_of(url)


def test_loopback_is_allowed_only_while_the_server_itself_listens_there() -> None:
    assert addresses("127.0.0.1").allows(ip_address("127.0.0.1"), "localhost")
    assert addresses("127.0.0.1").allows(ip_address("::ffff:127.0.0.1"), "localhost")
    assert not addresses("127.0.0.1").allows(ip_address("10.0.0.1"), "localhost")
    assert not addresses("0.0.0.0").allows(ip_address("127.0.0.1"), "localhost")


def test_loopback_is_not_allowed_to_clients_with_tokens() -> None:
    """They may be on other machines: the server is the upstream of a proxy."""
    assert not addresses("127.0.0.1", is_open=False).allows(ip_address("127.0.0.1"), "localhost")
    chosen = addresses("127.0.0.1", is_open=False, callback_allow="127.0.0.1")
    assert chosen.allows(ip_address("127.0.0.1"), "localhost")


def test_the_operator_allows_hosts_and_networks() -> None:
    some = addresses(callback_allow="hooks.internal, 10.1.0.0/16,fd00::5")
    assert some.allows(ip_address("192.168.1.1"), "hooks.internal")
    assert not some.allows(ip_address("192.168.1.1"), "other.internal")
    assert some.allows(ip_address("10.1.2.3"), "any.example.com")
    assert not some.allows(ip_address("10.2.2.3"), "any.example.com")
    assert some.allows(ip_address("fd00::5"), "any.example.com")


def test_a_target_has_what_the_request_needs() -> None:
    target = target_of("HTTPS://App.Example.com:8443/hook?a=1#part")
    assert (target.scheme, target.host, target.port, target.path) == ("https", "app.example.com", 8443, "/hook?a=1")
    assert target.authority == "app.example.com:8443"
    assert target_of("http://[2606:4700::1]").authority == "[2606:4700::1]"
    assert target_of("http://example.com").path == "/"
