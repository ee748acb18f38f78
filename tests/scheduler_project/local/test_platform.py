from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from scheduler_project.local import platform as platform_module
from scheduler_project.local.platform import Platform
from scheduler_project.local.supervisor import NotReadyError, Supervisor


class Unready(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(503)
        self.end_headers()
        self.wfile.write(b"the broker does not answer")

    def log_message(self, *_args: object) -> None:
        pass


@pytest.fixture
def unready() -> Iterator[str]:
    """The address of a web service that is not ready."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Unready) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_web_that_is_never_ready_is_asked_why(
    unready: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform_module, "WEB_READY_SECONDS", 0.1)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with Supervisor(lambda _name, _line: None) as supervisor:
        running = Platform(supervisor, tmp_path, "sqlite:////db", "redis://broker")

        with pytest.raises(NotReadyError, match="the broker does not answer"):
            running.wait_until_ready(unready)


MOVER = """
import sys
import django
django.setup()
from django.db import connection
from scheduler_project.local.platform import use_database
connection.ensure_connection()
use_database(sys.argv[1])
print(*connection.introspection.table_names())
"""


def test_django_moves_to_a_database_that_came_late(tmp_path: Path) -> None:
    late = tmp_path / "late.sqlite3"
    with closing(sqlite3.connect(late)) as made, made:
        made.execute("CREATE TABLE here (x)")

    tables = subprocess.check_output(
        [sys.executable, "-c", MOVER, f"sqlite:///{late}"],
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "scheduler_project.settings"},
        text=True,
    )

    assert tables.split() == ["here"]
