"""Flower in an environment of its own, made at the first start.

Beside a worker its packages would cost each worker 12 MB, so no other process may
see them.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from scheduler_project.local.ports import HOST
from scheduler_project.local.supervisor import Service

INSTALL, FLOWER = "flower-install", "flower"
_INSTALL_SCRIPT = """
set -e
"$1" -m venv --clear "$2"
"$2/bin/pip" install -qq --disable-pip-version-check --no-input -r "$3"
echo "$4" >"$2/installed"
"""


class FlowerEnvironment:
    """The virtual environment `directory`, as `requirements` pins it."""

    def __init__(self, directory: Path, requirements: Path) -> None:
        self._directory = directory
        self._requirements = requirements
        self._digest = hashlib.sha256(requirements.read_bytes()).hexdigest()

    @property
    def is_installed(self) -> bool:
        """Whether all of it is there, and as pinned now."""
        stamp = self._directory / "installed"
        return stamp.exists() and stamp.read_text().strip() == self._digest

    def install(self) -> Service:
        """The installation, as a service that ends when it is done."""
        arguments = (sys.executable, self._directory, self._requirements, self._digest)
        return Service(
            name=INSTALL,
            command=["sh", "-c", _INSTALL_SCRIPT, "sh", *map(str, arguments)],
            is_essential=False,
        )

    def flower(self, broker_url: str, port: int) -> Service:
        return Service(
            name=FLOWER,
            command=[
                *(str(self._directory / "bin" / "celery"), "flower"),
                *(f"--address={HOST}", f"--port={port}"),
                # The default keeps 100,000 tasks, which is 330 MB.
                "--max-tasks=5000",
                "--logging=warning",
            ],
            # Not on the command line, where every user of the host could read it.
            environment={"CELERY_BROKER_URL": broker_url},
            is_essential=False,
        )
