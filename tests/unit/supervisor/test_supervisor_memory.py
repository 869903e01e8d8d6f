"""The supervisor runs as long as the server: what it imports is memory that no model can have."""

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
unneeded = "numpy", "starlette", "tfserve.web.app", "tfserve.web.pages.model_pages"
print([name for name in unneeded if name in sys.modules])
"""


def test_the_supervisor_imports_neither_numpy_nor_what_web_needs(tmp_path: Path) -> None:
    found = subprocess.run([sys.executable, "-c", IMPORTS, str(tmp_path)], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
