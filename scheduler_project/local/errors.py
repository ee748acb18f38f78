"""What keeps the local platform from running. Each message is for people."""

from __future__ import annotations


class PlatformError(Exception):
    """The platform cannot run, or cannot go on."""
