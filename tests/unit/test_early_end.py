"""A training that is to end early ends early in the next attempt too."""

from __future__ import annotations

from pathlib import Path

from tfserve.training import early_end
from tfserve.training.early_end import EarlyEnd


def test_a_request_is_kept_for_the_next_attempt_of_the_same_job_only(tmp_path: Path) -> None:
    file = tmp_path / "early-end"
    ends_early = EarlyEnd(7001, file)
    assert not ends_early()
    early_end.request(7001)
    assert ends_early()
    early_end._requested.clear()  # as in a new worker
    assert EarlyEnd(7001, file)()
    assert not EarlyEnd(7002, file)(), "a task that is resumed has another job"
