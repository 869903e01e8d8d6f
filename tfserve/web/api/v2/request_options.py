"""Parts of a version 2 request that REST and gRPC share: the model, its version, priority and timeout."""

from __future__ import annotations

import unicodedata

from tfserve.errors import Invalid
from tfserve.web.predictions.live_models import Model, Models, NoSuchVersion

MAX_DIGITS = 19
LEAST_URGENT = 7


def model_of(models: Models, name: str, version: str | None) -> Model:
    """The model version (default: the one that serves requests). Raises `NoSuchModel`, `NoSuchVersion`."""
    name = in_one_spelling(name)
    if not version:
        return models.get(name)
    if version.isascii() and version.isdigit() and len(version) <= MAX_DIGITS:
        return models.get(name, int(version))
    known = ", ".join(str(model.version) for model in models.versions(name))
    raise NoSuchVersion(name=name, version=repr(version[:40]), known=known)


def in_one_spelling(name: str) -> str:
    """The name in Unicode form NFC, as names are stored."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def urgency(priority: int) -> int | None:
    """Triton's priority parameter: 1 is the most urgent; None for 0, the default. Raises `Invalid`."""
    if priority < 0:
        raise Invalid(f"The parameter 'priority' must be an integer of at least 0, got {str(priority)[:40]}.")
    return min(priority - 1, LEAST_URGENT) if priority else None


def timeout_s(timeout_us: int) -> float | None:
    """The timeout from microseconds; None for 0, the server's own limit. Raises `Invalid`."""
    if timeout_us < 0:
        raise Invalid(f"The parameter 'timeout' must be at least 0 microseconds, got {str(timeout_us)[:40]}.")
    return timeout_us / 1e6 if timeout_us else None
