"""The metrics in the words of Prometheus."""

from tfserve.protocols.prometheus.app import PATHS, Scrape

__all__ = ["PATHS", "Scrape"]
