"""The APIs of TensorFlow Serving."""
