"""grpc.reflection: lists services and messages for clients such as grpcurl."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Collection
from typing import Any

from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha._async import ReflectionServicer

from tfserve.web.api.protos.descriptor_pool import POOL
from tfserve.web.rpc import Call, Service, StreamMethod

NAME = "grpc.reflection.v1alpha.ServerReflection"
#: The newer name of the same service, with the same messages.
NEW_NAME = "grpc.reflection.v1.ServerReflection"


def services(names: Collection[str]) -> list[Service]:
    """`names` are the services to list."""
    for each in (health_pb2, reflection_pb2):
        POOL.AddSerializedFile(each.DESCRIPTOR.serialized_pb)
    servicer = ReflectionServicer([*names, NAME], pool=POOL)

    def answer(requests: AsyncIterator[Any], _: Call) -> AsyncGenerator[Any, None]:
        return servicer.ServerReflectionInfo(requests, None)  # type: ignore[no-any-return]

    method = StreamMethod(reflection_pb2.ServerReflectionRequest, reflection_pb2.ServerReflectionResponse, answer)
    return [Service(name, {"ServerReflectionInfo": method}) for name in (NAME, NEW_NAME)]
