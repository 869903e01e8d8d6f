"""The errors of connections: `Unreachable`, with what a person can do about it."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tfserve_client.errors import UnexpectedResponse, Unreachable

CA_HINT = (
    "Name the CA that signed it, or the certificate itself if it signed itself: ca_file (--ca-file, TFSERVE_CA_FILE)."
)
TIME_HINT = "Renew it, or set the clock of this machine right."
NAME_HINT = "Use a name or an address that the certificate has."
CLIENT_HINT = (
    "The server requires a certificate of the client: certificate"
    " (--client-cert and --client-key, TFSERVE_CLIENT_CERT)."
)
HTTP_HINT = "The server seems not to use TLS: its address begins with http:// then."
HTTPS_HINT = "If the server uses TLS, its address begins with https://."

_WRONG_TIME = {9, 10}
"""OpenSSL's codes for certificates that are not valid yet, or not any more."""
_UNKNOWN_SIGNER = {18, 19, 20, 21}


def unreachable(url: str, error: httpx.TransportError) -> Unreachable:
    hint = hint_about(url, error)
    cause = (str(error) or type(error).__name__).rstrip(".")
    found = Unreachable(f"No response from {url}: {cause}{hint and '. '}{hint}")
    found.is_explained = bool(hint) and hint != HTTPS_HINT
    return found


@contextmanager
def translated(url: str) -> Iterator[None]:
    """Errors of httpx that no flow has handled, as errors of this package."""
    try:
        yield
    except httpx.TransportError as error:
        raise unreachable(url, error) from error
    except httpx.DecodingError as error:
        raise UnexpectedResponse(f"The response of {url} can't be decompressed: {error}") from error


def hint_about(url: str, error: BaseException) -> str:
    """A sentence, or nothing if the error says enough."""
    found = _ssl_error(error)
    if isinstance(found, ssl.SSLCertVerificationError):
        return _hint_about_certificate(found)
    text = str(found or error).lower()
    if "certificate_required" in text or "certificate required" in text:
        return CLIENT_HINT
    if "wrong_version_number" in text or "record layer failure" in text or "packet length" in text:
        return HTTP_HINT
    if (
        isinstance(error, httpx.RemoteProtocolError)
        and url.startswith("http:")
        and "without sending a response" in text
    ):
        return HTTPS_HINT
    return ""


def _hint_about_certificate(error: ssl.SSLCertVerificationError) -> str:
    if "mismatch" in error.verify_message:
        return NAME_HINT
    if error.verify_code in _UNKNOWN_SIGNER:
        return CA_HINT
    return TIME_HINT if error.verify_code in _WRONG_TIME else ""


def _ssl_error(error: BaseException | None) -> ssl.SSLError | None:
    """The error of the SSL library that caused it."""
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return error
        error = error.__cause__ or error.__context__
    return None
