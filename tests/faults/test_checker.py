"""What the checker of a chaos run and the soak run report, from journals and samples that are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from faults.chaos import versions
from faults.chaos.checker import Findings, check_jobs, check_numbers, check_predictions, check_runs
from faults.chaos.journal import Journal, read
from faults.chaos.recorded import problems
from faults.soak import LIMITS, fit


def job(id_: int, number: int, state: str = "succeeded", workspace: str = "a") -> dict[str, Any]:
    return {"id": id_, "job": number, "workspace": workspace, "state": state}


def acknowledged(id_: int, number: int, *, key: str = "k", **fields: Any) -> dict[str, Any]:
    ack = {"event": "acknowledged", "id": id_, "job": number, "key": key, "workspace": "a", "at": 1.0}
    return {**ack, "finish": False, "state": "queued", **fields}


def of_jobs(entries: list[dict[str, Any]], jobs: list[dict[str, Any]]) -> Findings:
    findings = Findings()
    check_jobs(entries, jobs, findings)
    check_numbers(jobs, findings)
    return findings


def test_jobs_that_agree_with_the_journal_are_no_violation() -> None:
    found = of_jobs([acknowledged(7, 0), acknowledged(8, 1, key="l")], [job(7, 0), job(8, 1, "lost")])
    assert (found.acknowledged, found.lost, found.duplicated, found.violations) == (2, 0, 0, [])


@pytest.mark.parametrize(
    ("entries", "jobs", "words"),
    [
        ([acknowledged(7, 0)], [], "acknowledged and not recorded"),
        ([acknowledged(7, 0)], [job(7, 1), job(8, 0)], "acknowledged and not recorded"),
        ([acknowledged(7, 0), acknowledged(7, 0, key="other")], [job(7, 0)], "was acknowledged to"),
        ([acknowledged(7, 0, finish=True, state="succeeded")], [job(7, 0, "lost")], "was succeeded and is lost now"),
        ([], [job(7, 0, "running")], "not over"),
        ([], [job(7, 0), job(8, 2)], "missing [1]"),
        ([], [job(7, 0), job(8, 0)], "numbers twice [0]"),
    ],
)
def test_what_does_not_agree_is_a_violation(
    entries: list[dict[str, Any]], jobs: list[dict[str, Any]], words: str
) -> None:
    found = of_jobs(entries, jobs)
    assert any(words in violation for violation in found.violations), found


def test_a_script_that_ran_twice_or_never_is_a_violation() -> None:
    entries = [{"event": "intent", "call": "/push_job/", "key": key} for key in ("k", "l", "m")]
    entries += [acknowledged(1, 0, key="k"), acknowledged(2, 1, key="l"), acknowledged(3, 2, key="m")]
    jobs = [job(1, 0), job(2, 1), job(3, 2, "lost")]
    found = Findings()
    check_runs(jobs, {"a": ["k", "k"]}, entries, found)
    assert found.duplicated == 1
    assert found.violations == ["k ran 2 times", "k succeeded and ran 2 times", "l succeeded and ran 0 times"]


@pytest.mark.parametrize(
    ("found", "words"),
    [([1.0], "older than 2"), ([2.0], None), ([3.0], "never deployed"), ([1.0, 2.0], "several"), ([1.5], "never")],
)
def test_a_response_has_one_version_that_was_deployed_and_not_replaced(found: list[float], words: str | None) -> None:
    entries = [
        {"event": "version", "version": 1, "at": 1.0}, {"event": "version", "version": 2, "at": 2.0},
        {"event": "deployed", "version": 2, "at": 3.0}, {"event": "version", "version": 3, "at": 9.0},
        {"event": "predicted", "versions": found, "sent_at": 4.0, "at": 5.0},
    ]  # fmt: skip
    findings = Findings()
    check_predictions(entries, findings)
    assert [words in violation for violation in findings.violations] == ([] if words is None else [True])


def test_a_journal_is_read_as_it_was_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "one.journal")
    journal.write("intent", key="k", call="/push_job/", fields={"name": "grüße"})
    journal.close()
    (entry,) = read(tmp_path)
    assert (entry["client"], entry["event"], entry["fields"]) == ("one", "intent", {"name": "grüße"})


def test_a_version_is_read_from_what_it_computed() -> None:
    x = [[1.0, 2.0], [3.0, 4.0]]
    assert versions.versions_of(x, [[2001.0, 2002.0], [2003.0, 2004.0]]) == {2.0}
    assert versions.versions_of(x, [[2001.0, 2002.0], [3003.0, 3004.0]]) == {2.0, 3.0}


def test_a_corrupt_database_is_a_problem(tmp_path: Path) -> None:
    import sqlite3

    (tmp_path / "tfserve.sqlite3").write_bytes(b"SQLite format 3\0" + bytes(5000))
    with pytest.raises(sqlite3.DatabaseError):
        problems(tmp_path, "")


def test_a_slope_counts_when_it_is_clear_and_large() -> None:
    noise = [0.0, 3.0, -2.0, 1.0, -1.0, 2.0, -3.0, 0.0]
    flat = fit([(60.0 * n, 100 + noise[n % 8]) for n in range(60)])
    leak = fit([(60.0 * n, 100 + n + noise[n % 8]) for n in range(60)])
    assert flat is not None
    assert leak is not None
    assert not flat.grows(LIMITS["memory"])
    assert leak.grows(LIMITS["memory"])
    assert (flat.verdict(LIMITS["memory"]), leak.verdict(LIMITS["memory"])) == ("flat", "GROWS")
    small = fit([(60.0 * n, 100 + 0.1 * n) for n in range(60)])
    assert small is not None
    assert small.verdict(LIMITS["memory"]) == "grows, below the limit"
    assert 55 < leak.per_hour < 65
    assert fit([(0.0, 1.0)] * 4) is None
