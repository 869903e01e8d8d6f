"""A server on one machine pays nothing for clusters."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

IMPORTS = """
import sys
from tfserve.config import load
from tfserve.supervisor import main
main.open_database(load({"data_dir": sys.argv[1]}), "owner:1")
from tfserve.supervisor import parts
import tfserve.web.app, tfserve.worker.__main__
roots = "ray", "tfserve.node", "cryptography", "tfserve.supervisor.cluster.cluster"
print([name for name in sys.modules if name in roots or name.startswith(tuple(f"{root}." for root in roots))])
"""


def test_neither_ray_nor_the_parts_of_a_cluster_are_imported(tmp_path: Path) -> None:
    found = subprocess.run([sys.executable, "-c", IMPORTS, str(tmp_path)], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
