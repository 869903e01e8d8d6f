"""Tensors without a runtime: type names, specs, the casting rule, and JSON."""
