"""Flower in an environment of its own, made at the first start.

Beside a worker its packages would cost each worker 12 MB, so no other process may
see them.
"""

from __future__ import annotations

from pathlib import Path

from scheduler_project.local.environments import PinnedEnvironment
from scheduler_project.local.platform import BASE_DIR
from scheduler_project.local.ports import HOST
from scheduler_project.local.supervisor import Service

APPLICATION = "workers_app.transports.flower"
INSTALL, FLOWER = "flower-install", "flower"


class FlowerEnvironment(PinnedEnvironment):
    """The virtual environment `directory`, as `requirements` pins it."""

    def __init__(self, directory: Path, requirements: Path) -> None:
        super().__init__(directory, requirements, INSTALL)

    def flower(self, broker_url: str, port: int) -> Service:
        return Service(
            name=FLOWER,
            command=[
                *(str(self.directory / "bin" / "celery"), "-A", APPLICATION),
                "flower",
                *(f"--address={HOST}", f"--port={port}"),
                # The default keeps 100,000 tasks, which is 330 MB.
                "--max-tasks=5000",
                "--logging=warning",
            ],
            # Not on the command line, where every user of the host could read it.
            environment={"CELERY_BROKER_URL": broker_url, "PYTHONPATH": str(BASE_DIR)},
            is_essential=False,
        )
