"""Certificate files: what the server refuses, and when it loads them again."""

from __future__ import annotations

import logging
import os
import ssl
import subprocess
from pathlib import Path

import pytest

from tests.certificates import Authority, Pair
from tfserve.certificates import CertificateFiles, CertificateUnusable, Reloading, server_context


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def pair(authority: Authority, tmp_path: Path) -> Pair:
    """In files of the test's own."""
    signed = authority.pair("server")
    own = Pair(tmp_path / "server.crt", tmp_path / "server.key")
    own.certificate.write_bytes(signed.certificate.read_bytes())
    own.key.write_bytes(signed.key.read_bytes())
    return own


def refusal(certificate: Path, key: Path, client_ca: Path | None = None) -> str:
    with pytest.raises(CertificateUnusable) as refused:
        server_context(CertificateFiles(certificate, key, client_ca))
    return refused.value.message


def test_a_pair_gives_a_context_for_tls_1_2_and_1_3(pair: Pair) -> None:
    context = server_context(CertificateFiles(pair.certificate, pair.key))
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.verify_mode == ssl.CERT_NONE


def test_with_a_ca_clients_need_a_certificate(pair: Pair, authority: Authority) -> None:
    context = server_context(CertificateFiles(pair.certificate, pair.key, authority.file))
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.minimum_version == ssl.TLSVersion.TLSv1_3


def test_a_missing_file_and_a_folder_are_named(pair: Pair, tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.crt", pair.key) == (
        f"TLS can't be used with {tmp_path}/none.crt: No such file or directory."
    )
    assert refusal(pair.certificate, tmp_path / "none.key").startswith(f"TLS can't be used with {tmp_path}/none.key:")
    assert refusal(tmp_path, pair.key).endswith(": Is a directory.")
    assert "none.pem: No such file" in refusal(pair.certificate, pair.key, tmp_path / "none.pem")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_key_is_named(pair: Pair) -> None:
    pair.key.chmod(0)
    assert refusal(pair.certificate, pair.key).endswith("server.key: Permission denied.")


def test_exchanged_files_are_noticed(pair: Pair) -> None:
    assert "server.key: expected a certificate in PEM format" in refusal(pair.key, pair.certificate)
    assert "server.crt: expected a private key in PEM format" in refusal(pair.certificate, pair.certificate)


def test_the_key_of_another_certificate_is_refused(pair: Pair, authority: Authority) -> None:
    other = authority.pair("other").key
    assert refusal(pair.certificate, other).endswith(f"the key in {other} belongs to another certificate.")


def test_an_encrypted_key_is_refused_without_a_prompt(pair: Pair, tmp_path: Path) -> None:
    encrypted = tmp_path / "encrypted.key"
    subprocess.run(
        ["openssl", "pkey", "-in", pair.key, "-out", encrypted, "-aes256", "-passout", "pass:secret"], check=True
    )
    assert "the key is encrypted" in refusal(pair.certificate, encrypted)


@pytest.mark.parametrize("kept", [0, 1, 30, 200])
def test_a_truncated_file_is_refused(pair: Pair, kept: int) -> None:
    pair.certificate.write_bytes(pair.certificate.read_bytes()[:kept])
    assert str(pair.certificate) in refusal(pair.certificate, pair.key)


def test_random_bytes_are_refused(pair: Pair, tmp_path: Path) -> None:
    noise = tmp_path / "noise"
    noise.write_bytes(b"-----BEGIN CERTIFICATE-----\nPRIVATE KEY-----\n" + bytes(range(256)) * 8)
    assert str(noise) in refusal(noise, pair.key)
    assert str(noise) in refusal(pair.certificate, noise)
    assert str(noise) in refusal(pair.certificate, pair.key, noise)


def test_files_are_loaded_again_only_after_a_change(pair: Pair, authority: Authority) -> None:
    loaded = Reloading(CertificateFiles(pair.certificate, pair.key), server_context)
    first = loaded.current
    assert not loaded.reload()
    pair.replace_by(authority.pair("next"))
    assert loaded.reload()
    assert loaded.current is not first
    assert not loaded.reload()


def test_a_half_replaced_pair_keeps_the_old_one_and_is_logged_once(
    pair: Pair, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    loaded = Reloading(CertificateFiles(pair.certificate, pair.key), server_context)
    first, new = loaded.current, authority.pair("next")
    pair.certificate.write_bytes(new.certificate.read_bytes())
    with caplog.at_level(logging.ERROR):
        assert [loaded.reload() for _ in range(3)] == [False] * 3
    assert loaded.current is first
    assert len(caplog.records) == 1
    assert "belongs to another certificate. The previous certificate stays in use." in caplog.text
    pair.key.write_bytes(new.key.read_bytes())
    assert loaded.reload()
    pair.key.unlink()
    assert not loaded.reload()
