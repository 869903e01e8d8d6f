"""TensorFlow Serving's protocols, under /v1/: what its clients send is understood, and answered as they expect."""
