"""The Open Inference Protocol (version 2) over REST and gRPC, as used by clients of KServe, Triton and MLServer."""
