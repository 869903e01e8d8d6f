"""The address of the head, at which the other machines of its cluster reach it."""

from __future__ import annotations

import socket
from ipaddress import ip_address

import psutil

from tfserve.config import Settings
from tfserve.errors import Invalid

ELSEWHERE = "192.0.2.1", 9
"""An address that no machine has, to find out which route leads to others. Nothing is sent."""


class OnlyThisMachine(Invalid):
    """The head of a cluster needs an address that other machines can reach, and {address} is not one. Set it with \
TFSERVE_CLUSTER_HOST."""


def host_of(settings: Settings) -> str:
    """The address in the settings, or else the one that is most likely right. Raises `OnlyThisMachine`."""
    given = [host for host in (settings.cluster_host, settings.host) if not _is_any(host)]
    if given and _is_loopback(settings.cluster_host):
        raise OnlyThisMachine(address=settings.cluster_host)
    for address in (*given, _of_default_route(), *_of_interfaces()):
        if address and not _is_loopback(address):
            return address
    raise OnlyThisMachine(address=settings.cluster_host)


def _of_default_route() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(ELSEWHERE)
            return str(sock.getsockname()[0])
        except OSError:
            return ""


def _of_interfaces() -> list[str]:
    found = [each for addresses in psutil.net_if_addrs().values() for each in addresses]
    return [each.address for each in found if each.family == socket.AF_INET]


def _is_any(host: str) -> bool:
    return host in ("", "0.0.0.0", "::")  # noqa: S104 - not to listen there


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
