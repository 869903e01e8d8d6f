"""The HTTP and gRPC APIs, one folder each. They only translate between clients and the server's core."""
