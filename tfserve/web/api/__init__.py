"""The wire protocols, one folder each. They only translate between clients and the server's core."""
