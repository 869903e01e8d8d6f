"""Everything that the gRPC port offers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tfserve.protocols import grpc_health, grpc_reflection
from tfserve.protocols.oip import grpc as oip
from tfserve.protocols.tfserving import grpc as tfserving
from tfserve.serving.models import Models
from tfserve.serving.rpc import Service


def all_services(
    models: Models, *, is_ready: Callable[[], Awaitable[bool]], repository: oip.Repository, limit_bytes: int
) -> list[Service]:
    """`is_ready` tells whether the server takes work; a request makes no array of more than `limit_bytes`."""
    apis = [oip.service(models, is_ready, repository), *tfserving.services(models, limit_bytes=limit_bytes)]
    names = [each.name for each in apis]
    return [*apis, grpc_health.service(models, names), *grpc_reflection.services([*names, grpc_health.NAME])]
