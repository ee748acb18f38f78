"""The bench's peers: what one writes without Gnomon, to run the same command.

A small project of its own, and of its own environment, with no import of Gnomon; the
bench puts its folder on PYTHONPATH. `sh -c true` is what each of them runs.
"""

from __future__ import annotations

import subprocess

ARGV = ("sh", "-c", "true")


def command_run() -> int:
    """Run the command to its end; returns its exit code."""
    return subprocess.run(ARGV, check=False).returncode  # noqa: S603 - a constant
