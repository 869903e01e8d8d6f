"""A descriptor pool for our messages, separate from protobuf's default pool.

TensorFlow and the stubs of tensorflow-serving-api register messages with the same full names in the default pool, which
does not allow duplicates. With a separate pool, both can be loaded into one process.
"""

from __future__ import annotations

from google.protobuf import any_pb2, wrappers_pb2
from google.protobuf.descriptor_pool import DescriptorPool

POOL = DescriptorPool()
for _well_known in (any_pb2, wrappers_pb2):
    POOL.AddSerializedFile(_well_known.DESCRIPTOR.serialized_pb)
