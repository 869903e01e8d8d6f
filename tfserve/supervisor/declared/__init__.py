"""Declared models: the server deploys by itself what the models file and TensorFlow Serving's clients declare."""
