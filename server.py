#!/usr/bin/env python
"""The server as a daemon: python server.py start | stop | restart | status [--port 2333]"""

import sys

from tfserve.cli import main

if __name__ == "__main__":
    sys.exit(main.daemon(sys.argv[1:]))
