"""What the client advises about a connection that could not be used."""

from __future__ import annotations

import ssl

import httpx
import pytest

from tfserve_client import connection_errors
from tfserve_client.connection_errors import hint_about


def about_certificate(code: int, message: str) -> str:
    cause = ssl.SSLCertVerificationError(1, f"[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: {message}")
    cause.verify_code, cause.verify_message = code, message
    error = httpx.ConnectError(str(cause))
    error.__cause__ = cause
    return hint_about("https://example.org", error)


@pytest.mark.parametrize(
    ("code", "message", "hint"),
    [
        (18, "self-signed certificate", connection_errors.CA_HINT),
        (20, "unable to get local issuer certificate", connection_errors.CA_HINT),
        (10, "certificate has expired", connection_errors.TIME_HINT),
        (9, "certificate is not yet valid", connection_errors.TIME_HINT),
        (62, "Hostname mismatch, certificate is not valid for 'x'.", connection_errors.NAME_HINT),
        (64, "IP address mismatch, certificate is not valid for '::1'.", connection_errors.NAME_HINT),
        (23, "certificate revoked", ""),
    ],
)
def test_the_advice_fits_the_fault_of_the_certificate(code: int, message: str, hint: str) -> None:
    assert about_certificate(code, message) == hint
