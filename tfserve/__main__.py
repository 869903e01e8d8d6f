"""`python -m tfserve`, the same as the command `tfserve`."""

from __future__ import annotations

from tfserve.cli.main import main

if __name__ == "__main__":
    main()
