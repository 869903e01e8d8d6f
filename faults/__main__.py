"""`make faults`: every fault against a real server, in a random order, and a table of what was observed."""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import tempfile
import time
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from faults.plugin import FaultsPlugin, Observed
from faults.rows import REPOSITORY, Row, load

COLOURS = {"survived": "green", "skipped": "yellow", "NOT SURVIVED": "red"}


def main() -> int:
    options = parse()
    rows = load(options.only)
    if not rows:
        print(f"faults: no fault contains {options.only!r}; --list shows them", file=sys.stderr)
        return 2
    if options.list:
        for row in rows:
            print(f"{row.section}: {row.fault} → {row.expected}")
        return 0
    seed = options.seed if options.seed is not None else secrets.randbelow(2**31)
    print(
        f"faults: {len(rows)} faults in the order of seed {seed} (repeat it with: make faults SEED={seed})", flush=True
    )
    started_at = time.monotonic()
    observed, problem = run(rows, seed)
    show(observed, seed, time.monotonic() - started_at, options.markdown)
    return 1 if problem or any(each.failures for each in observed) else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    seed = os.environ.get("SEED") or None
    parser.add_argument("--seed", type=int, default=seed, help="repeats the order of a run")
    parser.add_argument("--only", default="", help="only faults whose section, text or tests contain this")
    parser.add_argument("--list", action="store_true", help="lists the faults and runs nothing")
    parser.add_argument("--markdown", type=Path, help="also writes the table to this file")
    return parser.parse_args()


def run(rows: list[Row], seed: int) -> tuple[list[Observed], bool]:
    """What became of each row, and whether pytest itself could not run them."""
    ended: list[Observed] = []

    def report(each: Observed) -> None:
        ended.append(each)
        print(f"{len(ended):3d}/{len(rows)} {each.result} in {each.seconds:.1f} s: {each.row.fault}", flush=True)
        for failure in each.failures:
            print(f"        {failure}", flush=True)

    plugin = FaultsPlugin(rows, seed, report)
    code = 0
    with tempfile.TemporaryDirectory(prefix="tfserve-faults-", ignore_cleanup_errors=True) as folder:
        if rows:
            code = _pytest(rows, plugin, Path(folder))
    return [*plugin.observed.values()], code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)


def _pytest(rows: list[Row], plugin: FaultsPlugin, folder: Path) -> int:
    os.chdir(REPOSITORY)
    nodes = list(dict.fromkeys(f"tests/{test}" for row in rows for test in row.tests))
    options = ["-o", "addopts=--strict-markers", "-p", "no:terminal", "-p", "no:cacheprovider", "--timeout", "600"]
    return int(pytest.main([*options, "--basetemp", str(folder / "tmp"), *nodes], plugins=[plugin]))


def show(observed: list[Observed], seed: int, seconds: float, markdown: Path | None) -> None:
    table = Table(title=f"Faults, seed {seed}", show_lines=True)
    for heading in ("fault", "expected", "observed", "result"):
        table.add_column(heading, overflow="fold")
    for each in observed:
        colour = COLOURS[each.result]
        table.add_row(each.row.fault, each.row.expected, each.text, f"[{colour}]{each.result}[/{colour}]")
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    counts = {result: sum(each.result == result for each in observed) for result in COLOURS}
    tried = counts["survived"] + counts["NOT SURVIVED"]
    print(f"tried {tried}, survived {counts['survived']}, skipped {counts['skipped']}; {seconds:.0f} s, seed {seed}")
    if markdown:
        markdown.write_text(as_markdown(observed))


def as_markdown(observed: list[Observed]) -> str:
    lines = ["| fault | expected | observed | result |", "|---|---|---|---|"]
    lines += [f"| {each.row.fault} | {each.row.expected} | {each.text} | {each.result} |" for each in observed]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
