"""Trainings that are to end early and deliver their best model so far. Requests arrive in the thread of the inbox."""

from __future__ import annotations

_requested: set[int] = set()


def request(job: int) -> None:
    _requested.add(job)


def is_requested(job: int) -> bool:
    return job in _requested
