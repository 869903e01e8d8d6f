"""The servers that TFserve is compared with: `table.py` says which; each has an environment of its own to run in."""
