#!/usr/bin/env python
"""Run the demo project's management commands."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "poolproject.settings")
    try:
        from django.core.management import execute_from_command_line
    except ImportError as error:
        message = "Django is not installed here; is the virtual environment active?"
        raise ImportError(message) from error
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
