"""Which IP addresses are public. Where clients choose an address, the server connects to no other ones."""

from __future__ import annotations

import re
import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import SplitResult, urlsplit

MAX_URL = 2000
MAX_HOST, MAX_LABEL = 253, 63
"""Characters of a host name, and between two of its full stops. Python refuses to resolve longer labels."""
NAT64 = IPv6Network("64:ff9b::/96")
"""Translates IPv6 to IPv4: the last four bytes are the actual destination."""
GLOBAL_UNICAST = IPv6Network("2000::/3")

_NUMBERS = re.compile(r"[0-9a-fx.]+", re.ASCII | re.IGNORECASE)
Address = IPv4Address | IPv6Address


def literal(host: str) -> Address | None:
    """The address, if the host is one and not a name. Programs also understand `2130706433` and `0x7f.1`."""
    try:
        return ip_address(host.strip("[]"))
    except ValueError:
        pass
    if not _NUMBERS.fullmatch(host):
        return None
    try:
        return IPv4Address(socket.inet_aton(host))
    except OSError:
        return None


def is_public(address: Address) -> bool:
    """Whether everyone on the internet can reach it, so that nothing is gained by letting the server connect."""
    address = destination(address)
    if isinstance(address, IPv6Address) and address not in GLOBAL_UNICAST:
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved)


def destination(address: Address) -> Address:
    """The IPv4 address that an IPv6 address contains, or else the address itself."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def split_url(url: str) -> SplitResult | None:
    """The parts of a URL; None for what different programs might read differently, and for impossible host names."""
    if len(url) > MAX_URL or not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        return None
    try:
        parts = urlsplit(url)
        return None if parts.port == 0 or not _may_be_host(parts.hostname or "") else parts
    except ValueError:  # an invalid port, or unbalanced brackets
        return None


def _may_be_host(host: str) -> bool:
    """Whether it is empty, an IPv6 address, or a name whose labels have a length that names may have."""
    if not host or ":" in host:
        return True
    labels = host.removesuffix(".").split(".")
    return len(host) <= MAX_HOST and all(0 < len(label) <= MAX_LABEL for label in labels)
