"""Which sources the operator allows (`remote_sources`), and what an address means."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from tfserve.errors import Forbidden, Invalid
from tfserve.public_addresses import is_public, literal, split_url

SCHEMES = ("https", "s3", "gs", "hf")
_REMOTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


class SourceNotAllowed(Forbidden):
    """path: this server may not fetch files from {source}. It may fetch from: {allowed}. The operator adds a source \
with remote_sources (TFSERVE_REMOTE_SOURCES); or send the files to POST /upload/."""


class SourceNotPublic(Forbidden):
    """path: {host} is not a public address, and files are only fetched from public ones. Send the files to POST \
/upload/ instead."""


@dataclass(frozen=True)
class RemoteSource:
    """A file or folder on another server."""

    scheme: str
    place: str
    """A host with its port, a bucket, or an organisation."""
    path: str
    query: str = ""

    @property
    def url(self) -> str:
        return f"{self}?{self.query}" if self.query else str(self)

    @property
    def name(self) -> str:
        """A name for the file or folder."""
        return unquote(self.path.rstrip("/").rpartition("/")[2]) or self.place.partition(":")[0]

    def __str__(self) -> str:
        """Without the query, which may contain a secret."""
        return f"{self.scheme}://{self.place}{self.path}"

    def contains(self, other: RemoteSource) -> bool:
        """Whether the other one is this one or below it."""
        same = (self.scheme, self.place) == (other.scheme, other.place)
        return same and f"{other.path}/".startswith(f"{self.path.rstrip('/')}/")


def is_remote(path: str) -> bool:
    return _REMOTE.match(path) is not None


def allowed_source(path: str, allowed: Sequence[RemoteSource]) -> RemoteSource:
    """Raises `Invalid`, `SourceNotAllowed`, `SourceNotPublic`."""
    source = parse(path, "path")
    if not any(each.contains(source) for each in allowed):
        names = ", ".join(map(str, allowed)) or "no other server"
        raise SourceNotAllowed(source=f"{source.scheme}://{source.place}", allowed=names)
    check_host(source)
    return source


def check_host(source: RemoteSource) -> None:
    """Raises `SourceNotPublic` for an address that is not. Names are checked when they have been resolved."""
    if source.scheme == "https":
        host = urlsplit(source.url).hostname or ""
        address = literal(host)
        if address is not None and not is_public(address):
            raise SourceNotPublic(host=host)


def parse(text: str, field: str) -> RemoteSource:
    """Raises `Invalid`."""
    parts = split_url(text)
    if parts is None or parts.scheme not in SCHEMES or not parts.netloc or "@" in parts.netloc or parts.fragment:
        raise Invalid(
            f"{field}: expected an address such as https://models.example.com/model.zip, s3://bucket/model,"
            f" gs://bucket/model or hf://organisation/model, without user name, password and fragment; got"
            f" {_shown(text)!r}",
            field=field,
        )
    if any(part in (".", "..") for part in unquote(parts.path).split("/")) or (parts.query and parts.scheme != "https"):
        raise Invalid(f"{field}: the path of {_shown(text)!r} can't be used", field=field)
    place = parts.netloc
    if parts.scheme == "https":
        place = place.lower().removesuffix(":443")
    return RemoteSource(parts.scheme, place, parts.path, parts.query)


def _shown(text: str) -> str:
    """Without user name, password and query, which may contain secrets."""
    return re.sub(r"//[^/]*@", "//", text.partition("?")[0])[:200]
