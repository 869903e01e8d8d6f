"""What proxies report about the client, believed only if it comes from a trusted proxy.

`X-Forwarded-For`, `-Proto` and `-Host` or `Forwarded` (RFC 7239) replace the client's address, the scheme and the Host
header of a request. Each proxy appends to the list of addresses, so the client is the last one that is not a trusted
proxy. Most proxies set only one of the two sorts of header and pass on the other as the client sent it. So a request
that has both is believed only if they agree.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

from starlette.types import ASGIApp, Receive, Scope, Send

from tfserve.config import MAX_PORT, Network

MAX_KNOWN = 4096
_PAIR = re.compile(r'\s*([A-Za-z]+)=("(?:[^"\\]|\\.)*"|[^;,"\s]*)\s*(?:([;,])|$)')
_HOST = re.compile(r"[A-Za-z0-9._:\[\]-]{1,256}")
_ADDRESS = re.compile(r"\[(?P<v6>[^\]]+)\](?::(?P<port6>\d{1,5}))?|(?P<v4>[0-9.]+)(?::(?P<port4>\d{1,5}))?")

Header = tuple[bytes, bytes]
Address = tuple[str, int]
"""Host and port. The port is 0 if it is unknown."""


def is_forwarded(name: bytes) -> bool:
    """Whether a header is one with which proxies report about the client."""
    return name == b"forwarded" or name.startswith(b"x-forwarded-")


def origin_of(scope: Scope) -> str:
    """The address that the client used: http://host:port."""
    host = dict(scope["headers"]).get(b"host", b"127.0.0.1").decode("latin-1")
    return f"{scope['scheme']}://{host}"


class Client(NamedTuple):
    """What a proxy reports. Each part is None if the proxy does not report it."""

    address: Address | None = None
    scheme: str | None = None
    host: str | None = None


class TrustedProxies:
    def __init__(self, networks: Sequence[Network]) -> None:
        self._networks = networks
        self._known: dict[str, bool] = {}

    def client(self, peer: str, headers: Iterable[Header]) -> Client:
        """What the forwarded headers of a request from `peer` report, as far as they can be trusted."""
        if not self._trusts(peer):
            return Client()
        found: dict[bytes, list[str]] = {}
        for name, value in headers:
            if is_forwarded(name):
                found.setdefault(name, []).append(value.decode("latin-1"))
        forwarded = self._standard(", ".join(found.pop(b"forwarded"))) if b"forwarded" in found else None
        if not found:
            return forwarded or Client()
        older = Client(
            self._last_untrusted(", ".join(found.get(b"x-forwarded-for", ())).split(","))[1],
            _scheme(_last(found.get(b"x-forwarded-proto", ()))),
            _host(_last(found.get(b"x-forwarded-host", ()))),
        )
        return older if forwarded in (None, older) else Client()

    def _trusts(self, peer: str) -> bool:
        known = self._known.get(peer)
        if known is None:
            known = self._is_in_network(peer)
            if len(self._known) < MAX_KNOWN:
                self._known[peer] = known
        return known

    def _is_in_network(self, peer: str) -> bool:
        address = _parsed(peer)
        return address is not None and any(address in network for network in self._networks)

    def _standard(self, text: str) -> Client:
        """`Forwarded`: an element per proxy. Scheme and host are those that the client used."""
        elements = _elements(text)
        index, address = self._last_untrusted([element.get("for", "") for element in elements])
        if index is None:
            return Client()
        element = elements[index]
        return Client(address, _scheme(element.get("proto", "")), _host(element.get("host", "")))

    def _last_untrusted(self, hops: Sequence[str]) -> tuple[int | None, Address | None]:
        """The last address that is not a trusted proxy, with its index; the first if all are trusted.

        An entry that is not an address hides all entries before it.
        """
        found: tuple[int | None, Address | None] = (None, None)
        for index in reversed(range(len(hops))):
            address = _address(hops[index].strip())
            if address is None:
                break
            found = index, address
            if not self._trusts(address[0]):
                break
        return found


class Forwarded:
    """ASGI middleware that gives requests from trusted proxies the client, scheme and host that these report."""

    def __init__(self, app: ASGIApp, proxies: TrustedProxies) -> None:
        self._app = app
        self._proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self.apply(scope)
        await self._app(scope, receive, send)

    def apply(self, scope: Scope) -> None:
        """Changes the scope of a request."""
        if not scope.get("client"):
            return
        client = self._proxies.client(scope["client"][0], scope["headers"])
        if client.address is not None:
            scope["client"] = client.address
        if client.scheme is not None:
            scope["scheme"] = client.scheme
        if client.host is not None:
            others = [header for header in scope["headers"] if header[0] != b"host"]
            scope["headers"] = [(b"host", client.host.encode()), *others]


def _elements(text: str) -> list[dict[str, str]]:
    """The elements of a `Forwarded` header. Empty if it is malformed."""
    elements: list[dict[str, str]] = [{}]
    position = 0
    while position < len(text):
        match = _PAIR.match(text, position)
        if match is None:
            return []
        value = match[2]
        elements[-1][match[1].lower()] = re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
        if match[3] == ",":
            elements.append({})
        position = match.end()
    return elements


def _address(text: str) -> Address | None:
    """`192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`."""
    match = _ADDRESS.fullmatch(text)
    host, port = (match["v6"] or match["v4"], match["port6"] or match["port4"]) if match else (text, None)
    parsed = _parsed(host)
    return None if parsed is None or int(port or 0) > MAX_PORT else (str(parsed), int(port or 0))


def _parsed(host: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _last(values: Sequence[str]) -> str:
    return values[-1].rpartition(",")[2].strip() if values else ""


def _scheme(text: str) -> str | None:
    return text.lower() if text.lower() in ("http", "https") else None


def _host(text: str) -> str | None:
    return text if _HOST.fullmatch(text) else None
