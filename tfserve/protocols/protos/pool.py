"""The descriptors of our messages, apart from protobuf's own pool.

TensorFlow and the stubs of tensorflow-serving-api put messages of the same full names into the default pool, where two
files can't define one name. So ours live here, and both can be loaded into one process.
"""

from __future__ import annotations

from google.protobuf import any_pb2, wrappers_pb2
from google.protobuf.descriptor_pool import DescriptorPool

POOL = DescriptorPool()
for _well_known in (any_pb2, wrappers_pb2):
    POOL.AddSerializedFile(_well_known.DESCRIPTOR.serialized_pb)
