"""The messages of the gRPC APIs: `*.proto` says what they are, `make protos` makes `*_pb2.py` and `*_pb2.pyi` of it."""
