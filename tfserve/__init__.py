"""TFserve: train, run and serve TensorFlow models over plain HTTP and JSON."""

__version__ = "0.1.0"
