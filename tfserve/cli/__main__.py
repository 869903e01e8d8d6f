"""`python -m tfserve.cli`."""

from __future__ import annotations

from tfserve.cli.main import main

main()
