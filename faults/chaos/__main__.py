"""`make chaos`: clients work while a seeded killer does harm. Nothing may be lost, doubled or left over."""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from faults.chaos.disk import small_disk
from faults.chaos.run import Run
from tests.acceptance.postgresql_server import NotInstalled, PostgreSQL, private_server

DATABASES = ("sqlite", "postgresql")


def main() -> int:
    options = parse()
    seed = options.seed if options.seed is not None else secrets.randbelow(2**31)
    database: str = options.database
    print(f"chaos: {options.minutes:g} minutes, seed {seed}, {database} (again: make chaos SEED={seed})", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="tfserve-chaos-"))
    passed = False
    try:
        with small_disk(folder / "disk") as disk, database_of(database) as postgresql:
            passed = Run(folder, disk, seed, options.minutes * 60, postgresql, options.clients).report()
        return 0 if passed else 1
    finally:
        if passed and not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            print(f"journals and log: {folder}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    environ = {name: os.environ.get(name) or None for name in ("MINUTES", "SEED", "DATABASE")}
    parser.add_argument("--minutes", type=float, default=environ["MINUTES"] or "10")  # argparse converts text, too
    parser.add_argument("--seed", type=int, default=environ["SEED"])
    parser.add_argument("--database", default=environ["DATABASE"] or DATABASES[0], help=" or ".join(DATABASES))
    parser.add_argument("--clients", default="", help="only clients whose names contain this")
    parser.add_argument("--keep", action="store_true", help="keeps journals and log of a run that passed, too")
    options = parser.parse_args()
    if options.database not in DATABASES:
        parser.error(f"the database must be {' or '.join(DATABASES)}, got {options.database!r}")
    return options


@contextmanager
def database_of(kind: str) -> Iterator[PostgreSQL | None]:
    if kind == "sqlite":
        yield None
        return
    try:
        with private_server() as running:
            yield running
    except NotInstalled as missing:
        raise SystemExit(f"chaos: {missing}") from None


if __name__ == "__main__":
    started_at = time.monotonic()
    code = main()
    print(f"{time.monotonic() - started_at:.0f} s")
    sys.exit(code)
