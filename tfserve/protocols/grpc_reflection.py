"""grpc.reflection: clients such as grpcurl ask what services and messages there are."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Collection
from typing import Any

from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha._async import ReflectionServicer

from tfserve.protocols.protos.pool import POOL
from tfserve.serving.rpc import Call, Service, Stream

NAME = "grpc.reflection.v1alpha.ServerReflection"
#: The same messages under the name that replaced it.
NEW_NAME = "grpc.reflection.v1.ServerReflection"


def services(names: Collection[str]) -> list[Service]:
    """`names` are the services to tell of."""
    for each in (health_pb2, reflection_pb2):
        POOL.AddSerializedFile(each.DESCRIPTOR.serialized_pb)
    servicer = ReflectionServicer([*names, NAME], pool=POOL)

    def answer(requests: AsyncIterator[Any], _: Call) -> AsyncGenerator[Any, None]:
        return servicer.ServerReflectionInfo(requests, None)  # type: ignore[no-any-return]

    method = Stream(reflection_pb2.ServerReflectionRequest, reflection_pb2.ServerReflectionResponse, answer)
    return [Service(name, {"ServerReflectionInfo": method}) for name in (NAME, NEW_NAME)]
