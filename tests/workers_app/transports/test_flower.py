"""Flower's own application."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.services import ROOT
from tests.workers_app.transports.servers import Server


def test_flower_reads_the_streams_without_the_rest_of_gnomon(
    server: Server, tmp_path: Path
) -> None:
    """As `make up` starts it, but for a command that ends by itself."""
    without_django = {
        name: value
        for name, value in os.environ.items()
        if name not in {"DJANGO_SETTINGS_MODULE", "DATABASE_URL"}
    }
    done = subprocess.run(
        [
            *(sys.executable, "-m", "celery", "-A", "workers_app.transports.flower"),
            *("inspect", "ping", "--timeout=0.5"),
        ],
        cwd=tmp_path,
        env={
            **without_django,
            "CELERY_BROKER_URL": server.url,
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "No nodes replied" in done.stderr + done.stdout
