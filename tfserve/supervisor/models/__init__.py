"""Deployed models: their processes, their runtimes, and what the web processes know of them."""
