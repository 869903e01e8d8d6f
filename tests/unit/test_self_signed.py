"""The certificate of `--tls-self-signed`: made once, valid for the host names in the settings, trusted by clients."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from pathlib import Path

import pytest

from tfserve.certificates import files_of, server_context
from tfserve.config import Settings, load
from tfserve.errors import Invalid
from tfserve.supervisor.self_signed import fingerprint, with_certificate


def settings(folder: Path, **values: str | bool) -> Settings:
    folder.mkdir(exist_ok=True)
    return with_certificate(load({"data_dir": str(folder), "tls_self_signed": True, **values}, {}))


def content(made: Settings) -> tuple[bytes, bytes]:
    return Path(made.tls_cert).read_bytes(), Path(made.tls_key).read_bytes()


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1", socket.gethostname(), "models.example.com"])
def test_clients_trust_it_for_every_name_of_the_server(name: str, tmp_path: Path) -> None:
    made = settings(tmp_path, allowed_hosts="models.example.com, *")
    files = files_of(made)
    assert files is not None
    ours, theirs = socket.socketpair()
    server = threading.Thread(target=lambda: server_context(files).wrap_socket(ours, server_side=True).close())
    server.start()
    client = ssl.create_default_context(cafile=made.tls_cert).wrap_socket(theirs, server_hostname=name)
    client.close()
    server.join(10)


def test_it_is_kept_as_long_as_it_is_usable(tmp_path: Path) -> None:
    made = settings(tmp_path)
    kept = content(made)
    assert content(settings(tmp_path)) == kept
    with_name = content(settings(tmp_path, allowed_hosts="models.example.com"))
    assert with_name != kept
    assert content(settings(tmp_path, allowed_hosts="models.example.com")) == with_name
    Path(made.tls_key).write_bytes(kept[1])  # as after a crash between the two files
    assert content(settings(tmp_path)) not in (kept, with_name)


@pytest.mark.parametrize("name", ["2001:db8:0::1", "[2001:DB8:0:0::1]", "fe80::1%eth0", "::ffff:10.0.0.1"])
def test_it_is_kept_for_an_address_in_any_notation(tmp_path: Path, name: str) -> None:
    made = content(settings(tmp_path, allowed_hosts=name))
    assert content(settings(tmp_path, allowed_hosts=name)) == made


def test_only_this_user_may_read_the_key(tmp_path: Path) -> None:
    made = settings(tmp_path)
    assert Path(made.tls_key).stat().st_mode & 0o077 == 0
    assert [path.name for path in sorted(Path(made.tls_key).parent.iterdir())] == ["self-signed.crt", "self-signed.key"]


def test_the_fingerprint_is_that_of_openssl(tmp_path: Path) -> None:
    certificate = Path(settings(tmp_path).tls_cert)
    command = ["openssl", "x509", "-in", certificate, "-noout", "-fingerprint", "-sha256"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed.strip().endswith(f"={fingerprint(certificate)}")


def test_it_is_refused_together_with_another_certificate(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="don't set tls_cert"):
        settings(tmp_path, tls_cert="a", tls_key="b")
    assert not (tmp_path / "tls").exists()
