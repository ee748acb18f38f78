"""What a worker knows of the versions of tasks, which never change.

Of the runs that it claims, those of a version that it knows come without the
definition: to read and to send it costs more than to start the run.
"""

from __future__ import annotations

import json
from typing import Any

MAX_KNOWN = 100
"""Versions; each claim names them all. A worker that meets more forgets them, and
begins again."""


class Definitions:
    """The definitions that one claimant has read. Not for several threads at once."""

    def __init__(self) -> None:
        self._read: dict[int, tuple[dict[str, Any], str]] = {}

    def known(self) -> list[int]:
        """The versions that need not be sent with the next claim."""
        if len(self._read) > MAX_KNOWN:
            self._read.clear()
        return list(self._read)

    def of(self, version_id: int, text: str | None) -> dict[str, Any]:
        """A version's definition, of its JSON text or as it is known. Each caller gets
        a payload of its own, for a job may change what it is called with."""
        if text is not None:
            rules = json.loads(text)
            self._read[version_id] = rules, json.dumps(rules.pop("payload"))
        rules, payload = self._read[version_id]
        return {**rules, "payload": json.loads(payload)}
