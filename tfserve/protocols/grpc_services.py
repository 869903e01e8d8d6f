"""Everything that the gRPC port offers."""

from __future__ import annotations

from tfserve.protocols import grpc_health, grpc_reflection
from tfserve.protocols.oip import grpc as oip
from tfserve.protocols.tfserve.handlers import Context
from tfserve.protocols.tfserving import grpc as tfserving
from tfserve.serving.rpc import Service


def all_services(context: Context) -> list[Service]:
    models = context.models
    apis = [oip.service(context, models), *tfserving.services(models)]
    names = [each.name for each in apis]
    return [*apis, grpc_health.service(models, names), *grpc_reflection.services([*names, grpc_health.NAME])]
