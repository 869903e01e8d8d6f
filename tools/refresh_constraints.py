"""Writes constraints.txt: `refresh_constraints.py clients/python '.[extra,extra]'` asks pip what it would install.

Run it with the oldest Python that pyproject.toml allows: its versions also run on newer ones.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"
HEAD = "# Every version that this project is built and tested with. `make setup` installs exactly these.\n"

#: Installed without its dependencies: it demands `tensorflow`, while `tensorflow-cpu` is installed.
WITHOUT_DEPENDENCIES = "tf-keras"


def main(*requirements: str) -> None:
    reports = [_report(*requirements), _report("--no-deps", WITHOUT_DEPENDENCIES)]
    lines = constraints(reports)
    CONSTRAINTS.write_text(HEAD + "".join(f"{line}\n" for line in lines))
    print(f"{CONSTRAINTS.name}: {len(lines)} packages; `git diff` shows what is new, `make setup` installs it")


def constraints(reports: Iterable[Any]) -> list[str]:
    """`name==version` of all packages in pip's reports, except this project."""
    return sorted({line for report in reports for line in _pins(report)}, key=str.lower)


def _pins(report: Any) -> Iterator[str]:
    for package in report["install"]:
        if "dir_info" not in package["download_info"]:
            yield f"{package['metadata']['name']}=={package['metadata']['version']}"


def _report(*requirement: str) -> Any:
    """What pip would install into an empty environment."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-"]
    return json.loads(subprocess.run([*command, *requirement], check=True, stdout=subprocess.PIPE).stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
