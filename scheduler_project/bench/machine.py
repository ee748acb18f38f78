"""The machine and the versions that figures were measured with."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

from django.db import connection
from kombu import Connection

from scheduler_project.local.platform import BASE_DIR

PACKAGES = ("celery", "kombu", "Django", "psycopg")
CONNECT_SECONDS = 5


def machine() -> dict[str, object]:
    """Cores, processor, memory in MB, load, and versions; PostgreSQL's if it is up."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": _processor() or platform.processor(),
        "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        "load": round(os.getloadavg()[0], 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "postgresql": _postgresql_version(),
        **{name.lower(): version(name) for name in PACKAGES},
    }


def broker_version(broker_url: str) -> str:
    """The name and version that the server of a broker says of itself."""
    with Connection(broker_url, connect_timeout=CONNECT_SECONDS) as broker:
        if broker.transport.driver_type.startswith("amqp"):
            broker.connect()
            said = broker.connection.server_properties
            return f"{said.get('product')} {said.get('version')}"
        channel: Any = broker.default_channel
        said = channel.client.info("server")
        if "valkey_version" in said:  # beside the version of Redis that it is like
            return f"Valkey {said['valkey_version']}"
        return f"Redis {said['redis_version']}"


def commit() -> str:
    """The commit that is measured, with "+" if files differ from it; "" without git."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--exclude=*"],  # noqa: S607
            cwd=BASE_DIR, capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def _postgresql_version() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version")
        return str(cursor.fetchone()[0])


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return ""
