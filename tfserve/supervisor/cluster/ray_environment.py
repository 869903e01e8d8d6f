"""The environment in which Ray's programs run, on the head and on nodes."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Mapping
from pathlib import Path

AUTH_MODE = "RAY_AUTH_MODE"
AUTH_TOKEN = "RAY_AUTH_TOKEN"  # noqa: S105 - the name of a variable
AUTH_TOKEN_PATH = "RAY_AUTH_TOKEN_PATH"  # noqa: S105 - the same

PATIENT = {
    # Nodes wait for a GCS that is gone instead of ending: their actors serve.
    "RAY_gcs_rpc_server_reconnect_timeout_s": "86400",
    # Workers without `resources` see the GPUs of their node, as on a single machine.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # A node whose raylet is gone is noticed within some seconds instead of half a minute.
    "RAY_health_check_initial_delay_ms": "2000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_USAGE_STATS_ENABLED": "0",
}


def of_own_ray(secret: bytes) -> dict[str, str]:
    """For a Ray that the head starts: only members of this cluster can use it."""
    return {**PATIENT, AUTH_MODE: "token", AUTH_TOKEN: hmac.new(secret, b"ray", hashlib.sha256).hexdigest()}


def of_running_ray(environ: Mapping[str, str] = os.environ, home: Path | None = None) -> dict[str, str]:
    """For a Ray that the operator has started: with its token, if the head has one. Raises `OSError`.

    `ray start --head` makes a token in the home folder and requires it, unless RAY_AUTH_MODE says otherwise.
    """
    found = {name: environ[name] for name in (AUTH_MODE, AUTH_TOKEN) if name in environ}
    made = (home or Path.home()) / ".ray" / "auth_token"
    if AUTH_MODE not in found and (AUTH_TOKEN in found or AUTH_TOKEN_PATH in environ or made.is_file()):
        found[AUTH_MODE] = "token"
    if found.get(AUTH_MODE) == "token" and AUTH_TOKEN not in found and (AUTH_TOKEN_PATH in environ or made.is_file()):
        found[AUTH_TOKEN] = Path(environ.get(AUTH_TOKEN_PATH, made)).read_text().strip()
    return {**PATIENT, **found}
