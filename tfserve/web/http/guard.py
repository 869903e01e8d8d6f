"""The request guard: which hosts and origins may send requests.

A web page in the user's browser can send requests to 127.0.0.1, and with DNS rebinding (a name of its own that
resolves to that address) it can also read the responses. So every request must name a host of this server, and a
request that may change something must not come from another origin, except the allowed ones.
"""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import unquote_to_bytes

from starlette.types import ASGIApp, Receive, Scope, Send

from tfserve.config import Settings
from tfserve.errors import Forbidden, Invalid, Unavailable

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
HEALTH = "/v2/health/"
#: paths that are served even if the server is busy
ALWAYS = (HEALTH, "/metrics", "/monitoring/")
MAX_KNOWN = 1024
MAX_HOST_BYTES = 256
HOST_CHECKED = "tfserve.host_checked"
"""The key of a scope whose Host header another machine of the cluster has checked."""
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


class ForeignHost(Forbidden):
    """The request is addressed to the host {host!r}, which is not one of this server's. Use its address or its own \
name, or start the server with TFSERVE_ALLOWED_HOSTS naming it."""


class ForeignOrigin(Forbidden):
    """Cross-origin request from {origin!r} refused: pages of other origins may not change anything on this server, \
except those in TFSERVE_ALLOWED_ORIGINS."""


class UndecodableAddress(Invalid):
    """The address {address!r} is not UTF-8 after its escapes are decoded. Encode it as UTF-8 first, then escape each \
byte: ä becomes %C3%A4."""


class TooManyRequests(Unavailable):
    """{limit} requests are in progress, the maximum on this server (max_requests). Try again later."""


class Guard:
    """ASGI middleware. Raises `ForeignHost`, `ForeignOrigin`, `UndecodableAddress`, `TooManyRequests`,
    `Invalid`.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._allowed = {*LOOPBACK_NAMES, settings.host, f"[{settings.host}]"}
        self._allowed |= {name.strip().lower() for name in settings.allowed_hosts.split(",") if name.strip()}
        self._origins = {origin.encode() for origin in settings.origins}
        self._max_requests = settings.max_requests
        self._in_progress = 0
        self._any_host = "*" in self._allowed
        self._is_public = not settings.is_loopback
        if self._is_public:
            self._allowed |= {socket.gethostname().lower(), socket.getfqdn().lower()}
        #: Host headers that have been accepted
        self._known_hosts: set[bytes] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        self._check(scope)
        self.begin(scope)
        try:
            await self._app(scope, receive, send)
        finally:
            self.end()

    def knows(self, host: bytes | None) -> bool:
        """Whether requests with this Host header have been accepted."""
        return host in self._known_hosts

    def begin(self, scope: Scope) -> None:
        """Counts a request as in progress, until `end`. Raises `TooManyRequests`."""
        if self._in_progress >= self._max_requests and not scope["path"].startswith(ALWAYS):
            raise TooManyRequests(limit=self._max_requests)
        self._in_progress += 1

    def end(self) -> None:
        self._in_progress -= 1

    def _check(self, scope: Scope) -> None:
        _check_address(scope["raw_path"])
        _check_address(scope["query_string"])
        host, origin, site = None, None, None
        for name, value in scope["headers"]:
            if name == b"host":
                if host is not None:
                    raise Invalid("The request has two Host headers; expected exactly one.")
                host = value
            elif name == b"origin":
                origin = value
            elif name == b"sec-fetch-site":
                site = value
            elif name == b"transfer-encoding" and value.strip(b" \t").lower() != b"chunked":
                given = value.decode("latin-1")
                raise Invalid(f"Transfer-Encoding {given!r} is not supported; use chunked, and Content-Encoding: gzip.")
        host = host or b""
        is_checked = self._any_host or HOST_CHECKED in scope or scope["path"].startswith(HEALTH)
        if host not in self._known_hosts and not is_checked:
            self._check_host(host)
        is_from_page = origin is not None or site is not None
        if is_from_page and scope["method"] not in SAFE_METHODS and origin not in self._origins:
            _check_origin(host, origin, site)

    def _check_host(self, host: bytes) -> None:
        text = host.decode("latin-1").lower()
        name = _name(text)
        # DNS rebinding needs a name, so a request for an address is not from a page of another site.
        if name not in self._allowed and not (self._is_public and _is_address(name)):
            raise ForeignHost(host=text)
        if len(self._known_hosts) < MAX_KNOWN and len(host) <= MAX_HOST_BYTES:
            self._known_hosts.add(host)


def _check_address(quoted: bytes) -> None:
    """Other programs would replace the bytes in question, and name something that was not meant."""
    if b"%" in quoted:
        try:
            unquote_to_bytes(quoted).decode()
        except UnicodeDecodeError as error:
            raise UndecodableAddress(address=quoted[:200].decode("latin-1")) from error


def _check_origin(host: bytes, origin: bytes | None, site: bytes | None) -> None:
    if site is not None and site not in (b"same-origin", b"none"):
        raise ForeignOrigin(origin=site.decode("latin-1"))
    if origin is not None and origin.lower().partition(b"://")[2] != host.lower():
        raise ForeignOrigin(origin=origin.decode("latin-1"))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _name(host: str) -> str:
    """The host without its port."""
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host
