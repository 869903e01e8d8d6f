"""Reads the journals of a chaos run and what the server has recorded, and reports what does not agree."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from faults.chaos import journal

TERMINAL = {"succeeded", "failed", "cancelled", "lost"}
PAGE = 1000
MOST = 20
"""Violations of a kind that are listed."""


@dataclass
class Findings:
    """`violations` must be empty."""

    intended: int = 0
    acknowledged: int = 0
    lost: int = 0
    duplicated: int = 0
    predictions: int = 0
    tasks: int = 0
    states: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)


def check(url: str, journals: Path, ran: Path) -> Findings:
    """`ran` has a file for each workspace, with a line for each time that a script ran."""
    entries = list(journal.read(journals))
    with httpx.Client(base_url=url, timeout=60) as http:
        jobs = recorded_jobs(http)
        tasks = {task: http.get("/", params={"taskId": task}) for task in _of(entries, "task", "task")}
    findings = Findings(tasks=len(tasks))
    check_jobs(entries, jobs, findings)
    check_numbers(jobs, findings)
    check_runs(jobs, {path.name: path.read_text().split() for path in ran.iterdir()}, entries, findings)
    check_predictions(entries, findings)
    for task, response in tasks.items():
        if response.status_code != 200:
            findings.violations.append(f"training task {task} was acknowledged: {response.text[:200]}")
    return findings


def recorded_jobs(http: httpx.Client) -> list[dict[str, Any]]:
    jobs: list[dict[str, Any]] = []
    while True:
        page = http.get("/jobs/", params={"limit": PAGE, "offset": len(jobs)}).json()["result"]
        jobs += page["jobs"]
        if not page["jobs"]:
            return jobs


def check_jobs(entries: list[dict[str, Any]], jobs: list[dict[str, Any]], findings: Findings) -> None:
    """Every acknowledged job is there exactly once, under one key, with one outcome that has not changed."""
    by_id = {job["id"]: job for job in jobs}
    findings.duplicated += len(jobs) - len(by_id)
    findings.states = Counter(job["state"] for job in jobs)
    findings.intended = len(_of(entries, "intent", "key"))
    keys_of: dict[int, set[str]] = defaultdict(set)
    for ack in [entry for entry in entries if entry["event"] == "acknowledged"]:
        findings.acknowledged += 1
        keys_of[ack["id"]].add(ack["key"])
        job = by_id.get(ack["id"])
        if job is None or (job["workspace"], job["job"]) != (ack["workspace"], ack["job"]):
            findings.lost += 1
            findings.violations.append(f"acknowledged and not recorded: {ack} {job}")
        elif ack["finish"] and ack["state"] != job["state"]:
            findings.violations.append(f"job {job['id']} was {ack['state']} and is {job['state']} now")
    for id_, keys in keys_of.items():
        if len(keys) > 1:
            findings.violations.append(f"job {id_} was acknowledged to {keys}")
    findings.violations += [f"not over: {job}" for job in jobs if job["state"] not in TERMINAL][:MOST]


def check_numbers(jobs: list[dict[str, Any]], findings: Findings) -> None:
    """Numbers of a workspace are 0, 1, 2, … each once."""
    numbers: dict[str, list[int]] = defaultdict(list)
    for job in jobs:
        if job["workspace"] is not None:
            numbers[job["workspace"]].append(job["job"])
    for workspace, found in numbers.items():
        twice = [number for number, count in Counter(found).items() if count > 1]
        gaps = sorted(set(range(max(found) + 1)) - set(found))
        findings.duplicated += len(twice)
        if twice or gaps:
            findings.violations.append(f"workspace {workspace}: numbers twice {twice[:MOST]}, missing {gaps[:MOST]}")


def check_runs(
    jobs: list[dict[str, Any]], ran: dict[str, list[str]], entries: list[dict[str, Any]], findings: Findings
) -> None:
    """A script that succeeded ran once; no script ran twice."""
    states = {job["id"]: job["state"] for job in jobs}
    runs = Counter(token for tokens in ran.values() for token in tokens)
    again = [token for token, count in runs.items() if count > 1]
    findings.duplicated += len(again)
    findings.violations += [f"{token} ran {runs[token]} times" for token in again[:MOST]]
    scripts = {entry["key"] for entry in entries if entry["event"] == "intent" and entry["call"] == "/push_job/"}
    for ack in [entry for entry in entries if entry["event"] == "acknowledged" and entry["key"] in scripts]:
        if states.get(ack["id"]) == "succeeded" and runs[ack["key"]] != 1:
            findings.violations.append(f"{ack['key']} succeeded and ran {runs[ack['key']]} times")


def check_predictions(entries: list[dict[str, Any]], findings: Findings) -> None:
    """A response has one version, which was deployed by then, and is not older than the last one that was done."""
    intended = {entry["version"]: entry["at"] for entry in entries if entry["event"] == "version"}
    deployed = [(entry["at"], entry["version"]) for entry in entries if entry["event"] == "deployed"]
    for each in [entry for entry in entries if entry["event"] == "predicted"]:
        findings.predictions += 1
        oldest = max((version for at, version in deployed if at < each["sent_at"]), default=1)
        found = each["versions"]
        if len(found) != 1:
            findings.violations.append(f"a response of several versions: {each}")
        elif found[0] not in intended or intended[found[0]] > each["at"]:
            findings.violations.append(f"a response of a version that was never deployed: {each}")
        elif found[0] < oldest:
            findings.violations.append(f"a response of a version older than {oldest}: {each}")


def _of(entries: list[dict[str, Any]], event: str, name: str) -> list[Any]:
    return [entry[name] for entry in entries if entry["event"] == event]
