"""Which addresses callbacks may be sent to.

A client chooses the URL, so without rules it could make the server send requests into networks that only the server
can reach. Names are resolved when a callback is sent, and the connection goes to the address that was checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tfserve.access.principals import EVERYBODY, PRINCIPAL
from tfserve.config import Network, Settings
from tfserve.errors import Invalid
from tfserve.public_addresses import MAX_URL, Address, destination, is_public, literal, split_url

DEFAULT_PORTS = {"http": 80, "https": 443}


class CallbackRefused(Invalid):
    """callback: {url} is not a public address, so this server does not send requests to it. Use a public address, or \
let the operator add the host or its network to callback_allow (TFSERVE_CALLBACK_ALLOW)."""


@dataclass(frozen=True)
class CallbackAddress:
    """Where a callback goes, from its URL."""

    scheme: str
    host: str
    port: int
    #: path and query
    path: str

    @property
    def authority(self) -> str:
        """Host and port as in the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


@dataclass(frozen=True)
class CallbackAddresses:
    """The rules of a server."""

    #: hosts and networks that are allowed in addition to public addresses
    hosts: frozenset[str]
    networks: Sequence[Network]
    #: whether the server's own machine is allowed
    loopback: bool

    @classmethod
    def of(cls, settings: Settings, *, is_open: bool) -> CallbackAddresses:
        """`is_open`: requests need no token. A server on loopback with tokens may have clients on other machines, whose
        requests a proxy forwards.
        """
        hosts, networks = settings.callback_allowed
        return cls(hosts, networks, settings.is_loopback and is_open)

    def check(self, url: str) -> CallbackAddress:
        """What the URL says. Raises `Invalid` for one that can't be used, `CallbackRefused`."""
        target = target_of(url)
        address = literal(target.host)
        if address is not None and not self.allows(address, target.host):
            raise CallbackRefused(url=url)
        return target

    def allows(self, address: Address, host: str) -> bool:
        """Whether a connection to this address of the host may be opened."""
        address = destination(address)
        if host in self.hosts or any(_is_in(address, network) for network in self.networks):
            return True
        if address.is_loopback:
            return self.loopback
        return is_public(address)


def check_callback(url: str | None, settings: Settings) -> str | None:
    """The URL, if one is given. Raises `Invalid` for one that this server would never send a request to."""
    if url is not None:
        CallbackAddresses.of(settings, is_open=PRINCIPAL.get() is EVERYBODY).check(url)
    return url


def target_of(url: str) -> CallbackAddress:
    """Raises `Invalid`."""
    parts = split_url(url)
    if parts is None or parts.scheme not in DEFAULT_PORTS or not parts.hostname or "@" in parts.netloc:
        raise Invalid(
            f"callback must be a URL such as https://app.example.com/hook, without user name and password, of at most"
            f" {MAX_URL} characters; got {url[:200]!r}",
            field="callback",
        )
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return CallbackAddress(parts.scheme, parts.hostname.rstrip("."), parts.port or DEFAULT_PORTS[parts.scheme], path)


def _is_in(address: Address, network: Network) -> bool:
    return address.version == network.version and address in network
