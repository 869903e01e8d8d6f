"""Metrics, plots and the verdict."""
