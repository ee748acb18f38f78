#!/usr/bin/env python
"""Django's command line for Gnomon."""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "scheduler_project.settings")
    import scheduler_project  # noqa: F401 - first: it says what the rest does not load

    # isort: split
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)
