"""Forwarded headers are believed from trusted proxies only."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfserve.config import load
from tfserve.errors import Invalid
from tfserve.web.http.forwarded import Client, TrustedProxies

PROXIES = TrustedProxies(load({"trusted_proxies": "10.0.0.0/8, 192.0.2.7, 2001:db8:1::/48"}, {}).proxies)


def client(peer: str, **headers: str) -> Client:
    return PROXIES.client(peer, [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()])


@pytest.mark.parametrize(
    ("reported", "address"),
    [
        ("203.0.113.5", ("203.0.113.5", 0)),
        ("203.0.113.5:4711", ("203.0.113.5", 4711)),
        ("[2001:db8:2::1]:4711", ("2001:db8:2::1", 4711)),
        ("2001:db8:2::1", ("2001:db8:2::1", 0)),
        ("::ffff:203.0.113.5", ("203.0.113.5", 0)),
        ("198.51.100.1, 203.0.113.5", ("203.0.113.5", 0)),  # the client made up the first
        ("203.0.113.5, 10.1.1.1, 192.0.2.7", ("203.0.113.5", 0)),  # two more proxies
        ("10.1.1.1, 10.1.1.2", ("10.1.1.1", 0)),  # the client is inside
        ("203.0.113.5, unknown, 10.1.1.1", ("10.1.1.1", 0)),  # nothing before an unknown hop is believed
        ("unknown", None),
        ("", None),
        ("<script>", None),
        ("1.2.3.4.5", None),
    ],
)
def test_the_client_is_the_last_address_that_is_not_a_proxy(reported: str, address: tuple[str, int] | None) -> None:
    assert client("10.0.0.1", x_forwarded_for=reported).address == address


@pytest.mark.parametrize("peer", ["203.0.113.1", "2001:db8:2::1", "11.0.0.1", "", "unix:", "10.0.0.1.evil"])
def test_others_are_not_believed(peer: str) -> None:
    assert client(peer, x_forwarded_for="1.2.3.4", x_forwarded_proto="https", forwarded="for=1.2.3.4") == Client()


@pytest.mark.parametrize("peer", ["10.255.0.1", "192.0.2.7", "2001:db8:1::9", "::ffff:10.0.0.1"])
def test_networks_and_addresses_are_trusted(peer: str) -> None:
    assert client(peer, x_forwarded_for="1.2.3.4").address == ("1.2.3.4", 0)


def test_scheme_and_host_come_from_the_nearest_proxy() -> None:
    found = client("10.0.0.1", x_forwarded_proto="http, https", x_forwarded_host="evil.example, models.example.com")
    assert found == Client(None, "https", "models.example.com")
    assert client("10.0.0.1", x_forwarded_proto="javascript", x_forwarded_host="a b\r\nx: y") == Client()


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("for=203.0.113.5", Client(("203.0.113.5", 0))),
        ('For="[2001:db8:2::1]:4711";proto=https;host=models.example.com',
         Client(("2001:db8:2::1", 4711), "https", "models.example.com")),
        ("for=1.1.1.1;host=evil.example, for=203.0.113.5;proto=https;by=10.0.0.1, for=10.0.0.2;proto=http",
         Client(("203.0.113.5", 0), "https")),
        ("for=_hidden", Client()),
        ("for=203.0.113.5, nonsense", Client()),
        ('for="203.0.113.5', Client()),
        (",,,", Client()),
    ],
)  # fmt: skip
def test_the_standard_header(header: str, expected: Client) -> None:
    assert client("10.0.0.1", forwarded=header) == expected


def test_a_header_that_the_proxy_only_passes_on_can_not_replace_its_own() -> None:
    spoofed = {"forwarded": "for=1.2.3.4;host=evil.example", "x_forwarded_for": "203.0.113.5"}
    assert client("10.0.0.1", **spoofed) == Client()
    assert client("10.0.0.1", forwarded="for=203.0.113.5", x_forwarded_for="203.0.113.5").address is not None


@given(st.text(max_size=60), st.text(max_size=60), st.text(max_size=60))
def test_any_text_gives_an_address_or_none(forwarded: str, chain: str, host: str) -> None:
    headers = {"forwarded": forwarded, "x_forwarded_for": chain, "x_forwarded_host": host}
    for given_headers in (headers, {"forwarded": forwarded}, {"x_forwarded_for": chain}):
        found = client("10.0.0.1", **given_headers)
        assert found.address is None or 0 <= found.address[1] <= 65535


@pytest.mark.parametrize("text", ["proxy.example.com", "10.0.0.1/8", "10.0.0.0/33", "*", "1.2.3"])
def test_what_is_not_a_network_is_refused_at_the_start(text: str) -> None:
    with pytest.raises(Invalid, match="trusted_proxies must list addresses or networks"):
        load({"trusted_proxies": text}, {})


@pytest.mark.parametrize(
    ("text", "origins"),
    [
        ("https://App.example.com:443/, http://localhost:3000", {"https://app.example.com", "http://localhost:3000"}),
        ("http://app.example.com:80,", {"http://app.example.com"}),
        ("", set()),
    ],
)
def test_origins_are_compared_as_browsers_write_them(text: str, origins: set[str]) -> None:
    assert load({"allowed_origins": text}, {}).origins == origins


@pytest.mark.parametrize(
    "text",
    [
        "*",
        "null",
        "app.example.com",
        "https://a.example/path",
        "ftp://a",
        "https://u@a",
        "https://a?x",
        "https://ä.example",
    ],
)
def test_what_is_not_an_origin_is_refused_at_the_start(text: str) -> None:
    with pytest.raises(Invalid, match="allowed_origins must list origins such as"):
        load({"allowed_origins": text}, {})


@pytest.mark.parametrize("given_settings", [{"tls_cert": "a"}, {"tls_key": "a"}, {"tls_client_ca": "a"}])
def test_incomplete_settings_for_tls_are_refused(given_settings: dict[str, str]) -> None:
    with pytest.raises(Invalid, match="tls_"):
        load(given_settings, {})
