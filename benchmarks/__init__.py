"""Measurements, run by `make bench`. Timings on a shared machine are noisy: compare within one run."""
