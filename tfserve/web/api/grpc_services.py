"""All services of the gRPC port."""

from __future__ import annotations

from tfserve.web.api import grpc_health, grpc_reflection
from tfserve.web.api.endpoint import Context
from tfserve.web.api.v1 import grpc as tfserving
from tfserve.web.api.v2 import grpc as oip
from tfserve.web.rpc import Service


def all_services(context: Context) -> list[Service]:
    models = context.models
    apis = [oip.service(context, models), *tfserving.services(context)]
    names = [each.name for each in apis]
    return [*apis, grpc_health.service(models, names), *grpc_reflection.services([*names, grpc_health.NAME])]
