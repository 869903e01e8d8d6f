"""Which addresses of other servers are allowed as paths."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from tfserve.errors import Invalid
from tfserve.public_addresses import is_public, literal
from tfserve.remote_files.fetching import FetchLimits, RemoteNoRoom, RemoteNotFound, RemoteTooLarge, fetch
from tfserve.remote_files.public_https import PublicResolver
from tfserve.remote_sources import RemoteSource, SourceNotAllowed, SourceNotPublic, allowed_source, is_remote, parse

ALLOWED = [parse(each, "remote_sources") for each in ("https://Models.example.com/ok", "s3://bucket", "hf://org/model")]


@pytest.mark.parametrize(
    "path",
    [
        "https://models.example.com/ok/a.zip", "https://models.example.com:443/ok?signature=1", "s3://bucket",
        "s3://bucket/deep/model", "hf://org/model/file",
    ],
)  # fmt: skip
def test_what_begins_with_an_allowed_source_is_allowed(path: str) -> None:
    assert is_remote(path)
    assert allowed_source(path, ALLOWED).scheme in path


@pytest.mark.parametrize(
    "path",
    [
        "https://models.example.com/okay", "https://models.example.com/", "https://models.example.com.evil.org/ok/a",
        "https://models.example.com:8443/ok/a", "s3://bucket2/a", "gs://bucket/a", "hf://org/model2", "hf://ORG/model",
    ],
)  # fmt: skip
def test_everything_else_is_refused_with_what_is_allowed(path: str) -> None:
    with pytest.raises(SourceNotAllowed, match=r"s3://bucket"):
        allowed_source(path, ALLOWED)


@pytest.mark.parametrize(
    "path",
    [
        "http://models.example.com/ok/a", "file:///etc/passwd", "ftp://a/b", "https://user:secret@models.example.com/ok",
        "https:///ok", "https://models.example.com/ok/../x", "https://models.example.com/ok/%2e%2e/x",
        "https://models.example.com/ok#x", "https://models.example.com:0/ok", "https://[::1/ok", "s3://bucket/a?x=1",
        "https://models.example.com/ok\\x", "https://models.example.com/ok\nx", "github://a/b", "local://a",
        "simplecache::https://models.example.com/ok", f"https://models.example.com/ok/{'x' * 2000}",
    ],
)  # fmt: skip
def test_what_is_no_plain_address_is_refused(path: str) -> None:
    with pytest.raises(Invalid) as refused:
        allowed_source(path, ALLOWED)
    assert "secret" not in refused.value.message


@pytest.mark.parametrize("path", ["/a/b", "a/b", "upload:1234", "task:12", "C:/x", "a:b//c"])
def test_paths_are_not_remote(path: str) -> None:
    assert not is_remote(path)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "10.1.2.3", "[::1]", "[::ffff:10.0.0.1]", "169.254.169.254", "[64:ff9b::7f00:1]", "0.0.0.0"]
)
def test_private_addresses_are_refused_even_if_they_are_allowed(host: str) -> None:
    with pytest.raises(SourceNotPublic):
        allowed_source(f"https://{host}/a", [RemoteSource("https", host, "")])


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True), ("2606:4700::1111", True), ("::ffff:8.8.8.8", True), ("172.16.0.1", False),
        ("100.64.0.1", False), ("224.0.0.1", False), ("240.0.0.1", False), ("fe80::1", False), ("fd00::1", False),
        ("2002:0a00:0001::1", False),
    ],
)  # fmt: skip
def test_public_addresses(address: str, public: bool) -> None:
    assert is_public(ip_address(address)) is public


def test_a_name_of_a_private_address_is_refused_when_it_is_resolved() -> None:
    async def resolve() -> None:
        resolver = PublicResolver()
        with pytest.raises(SourceNotPublic, match="localhost"):
            await resolver.resolve("localhost", 443)
        await resolver.close()

    asyncio.run(resolve())


class Memory:
    """fsspec's file system in memory, in place of a bucket."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes]) -> None:
        import fsspec

        self.system: Any = fsspec.filesystem("memory", skip_instance_cache=True)
        self.system.store.clear()
        for name, data in files.items():
            self.system.pipe(f"/bucket/{name}", data)
        monkeypatch.setattr("tfserve.remote_files.fetching._file_system", lambda *_: self)

    def find(self, path: str, *, detail: bool) -> dict[str, Any]:
        return {name.lstrip("/"): info for name, info in self.system.find(f"/{path}", detail=detail).items()}

    def open(self, path: str, mode: str) -> Any:
        return self.system.open(f"/{path}", mode)


def test_a_folder_keeps_its_structure_and_limits_hold(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Memory(monkeypatch, {"m/a.txt": b"1234", "m/deep/b.txt": b"5678", "m2/c": b""})
    source = RemoteSource("s3", "bucket", "/m")
    assert fetch(source, ALLOWED, tmp_path, FetchLimits(100, 100)) == ["a.txt", "deep/b.txt"]
    assert [(tmp_path / each).read_bytes() for each in "01"] == [b"1234", b"5678"]
    for name, limits, expected in (
        ("x", FetchLimits(7, 100), RemoteTooLarge),
        ("y", FetchLimits(100, 7), RemoteNoRoom),
    ):
        folder = tmp_path / name
        folder.mkdir()
        with pytest.raises(expected):
            fetch(source, ALLOWED, folder, limits)
    with pytest.raises(RemoteNotFound):
        fetch(RemoteSource("s3", "bucket", "/nothing"), ALLOWED, tmp_path, FetchLimits(7, 7))


@pytest.mark.parametrize("host", ["a\0b", "127.0.0.1 x", "127.0.0.1\n", "١٢٧.0.0.1", "example.org", ""])
def test_what_is_no_address_is_a_name(host: str) -> None:
    assert literal(host) is None


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "127.1", "0X7F000001"])
def test_other_notations_of_addresses_are_understood(host: str) -> None:
    assert str(literal(host)) == "127.0.0.1"
