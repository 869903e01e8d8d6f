"""The settings that nodes take over from the head, so that every machine answers predictions alike."""

from __future__ import annotations

from collections.abc import Mapping

from tfserve.config import Settings, environment_name, to_environment

SHARED = (
    "predict_timeout_s", "max_predictions", "max_body_bytes", "max_response_bytes", "body_timeout_s", "allowed_origins",
    "token_requests_per_s", "token_bytes_in_flight", "head_grace_s", "shared_dir", "node_cache",
    "allow_unauthenticated", "drain_s",
)  # fmt: skip


def shared(settings: Settings) -> dict[str, str]:
    """As environment variables."""
    names = set(map(environment_name, SHARED))
    return {name: value for name, value in to_environment(settings).items() if name in names}


def only_shared(environment: Mapping[str, str]) -> dict[str, str]:
    """What another release of the head may send in addition is left out."""
    names = set(map(environment_name, SHARED))
    return {name: value for name, value in environment.items() if name in names}
