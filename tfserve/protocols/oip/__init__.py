"""The Open Inference Protocol, version 2, over REST and gRPC: what clients of KServe, Triton and MLServer speak."""
