"""TensorFlow Serving's REST API (under /v1/) and gRPC API, compatible with its clients."""
