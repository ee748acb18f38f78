"""Virtual environments of what must not be installed beside the platform."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from scheduler_project.local.supervisor import Service

_INSTALL_SCRIPT = """
set -e
"$1" -m venv --clear "$2"
"$2/bin/pip" install -qq --disable-pip-version-check --no-input -r "$3"
echo "$4" >"$2/installed"
"""


class PinnedEnvironment:
    """The virtual environment `directory`, as `requirements` pins it.

    `service_name`: what its installation is called.
    """

    def __init__(self, directory: Path, requirements: Path, service_name: str) -> None:
        self.directory = directory
        self._requirements = requirements
        self._service_name = service_name
        self._digest = hashlib.sha256(requirements.read_bytes()).hexdigest()

    @property
    def is_installed(self) -> bool:
        """Whether all of it is there, and as pinned now."""
        stamp = self.directory / "installed"
        return stamp.exists() and stamp.read_text().strip() == self._digest

    @property
    def python(self) -> Path:
        return self.directory / "bin" / "python"

    def install(self) -> Service:
        """The installation, as a service that ends when it is done."""
        arguments = (sys.executable, self.directory, self._requirements, self._digest)
        return Service(
            name=self._service_name,
            command=["sh", "-c", _INSTALL_SCRIPT, "sh", *map(str, arguments)],
            is_essential=False,
        )
