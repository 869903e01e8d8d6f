"""What REST and gRPC read alike in a request of version 2: which model is meant, and how it wants to be treated."""

from __future__ import annotations

import unicodedata

from tfserve.errors import Invalid
from tfserve.serving.models import Model, Models, NoSuchVersion

MAX_DIGITS = 19
LEAST_URGENT = 7


def model_of(models: Models, name: str, version: str | None) -> Model:
    """The version that serves when `version` is None or empty. Raises `NoSuchModel`, `NoSuchVersion`."""
    name = in_one_spelling(name)
    if not version:
        return models.get(name)
    if version.isascii() and version.isdigit() and len(version) <= MAX_DIGITS:
        return models.get(name, int(version))
    known = ", ".join(str(model.version) for model in models.versions(name))
    raise NoSuchVersion(name=name, version=repr(version[:40]), known=known)


def in_one_spelling(name: str) -> str:
    """Names are kept in one spelling, however they are typed."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def urgency(priority: int) -> int | None:
    """Triton's parameter counts from 1, the most urgent; None for 0, the default. Raises `Invalid`."""
    if priority < 0:
        raise Invalid(f"The parameter 'priority' must be a whole number of 0 or more; {str(priority)[:40]} was given.")
    return min(priority - 1, LEAST_URGENT) if priority else None


def timeout_s(timeout_us: int) -> float | None:
    """The parameter counts microseconds; None for 0, the server's own limit. Raises `Invalid`."""
    if timeout_us < 0:
        raise Invalid(f"The parameter 'timeout' counts microseconds, 0 or more; {str(timeout_us)[:40]} was given.")
    return timeout_us / 1e6 if timeout_us else None
