"""The metrics in the words of Prometheus."""

from tfserve.protocols.prometheus.app import MEDIA, PATHS, PURPOSE, TELLS, Scrape

__all__ = ["MEDIA", "PATHS", "PURPOSE", "TELLS", "Scrape"]
