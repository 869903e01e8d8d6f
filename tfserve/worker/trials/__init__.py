"""The role that compares a runtime with TensorFlow: same numbers, and how fast."""
