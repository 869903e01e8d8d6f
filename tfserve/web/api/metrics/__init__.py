"""The Prometheus metrics endpoint."""

from tfserve.web.api.metrics.app import MEDIA, PATHS, PURPOSE, TELLS, Scrape

__all__ = ["MEDIA", "PATHS", "PURPOSE", "TELLS", "Scrape"]
