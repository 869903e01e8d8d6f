#!/usr/bin/env python
"""Django's commands; `runserver` starts the whole server, the same as `tfserve serve`."""

import os
import sys

from tfserve.cli import main

if __name__ == "__main__":
    if sys.argv[1:2] == ["runserver"]:
        sys.exit(main.runserver(sys.argv[2:]))
    from django.core.management import execute_from_command_line

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tfserve.django_settings")
    execute_from_command_line(sys.argv)
