"""The Open Inference Protocol, version 2, over REST: what clients of KServe, Triton and MLServer speak."""
