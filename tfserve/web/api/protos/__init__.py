"""The messages of the gRPC APIs. `make protos` generates `*_pb2.py` and `*_pb2.pyi` from `*.proto`."""
