#!/usr/bin/env python
"""The server as a daemon: python server.py start | stop | restart | status [--port 2333]"""

import sys

from tfserve import daemon

if __name__ == "__main__":
    sys.exit(daemon.main(sys.argv[1:]))
