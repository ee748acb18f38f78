"""C2 and C11: the API is killed between its commit and its answer."""

from __future__ import annotations

import http.client
import json
import os
import signal
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.contrib.auth.models import User
from rest_framework_simplejwt.tokens import AccessToken

from scheduler_project.local.ports import HOST, free_port
from tasks_app.models import TaskRun
from tests.factories import make_task
from tests.services import Platform, platform, until

pytestmark = pytest.mark.fault


class Web:
    """A gunicorn of this test's own."""

    def __init__(self, started: Platform, application: str, **settings: str) -> None:
        self.address = f"{HOST}:{free_port()}"
        self.process = started.start(
            *("-m", "gunicorn", application, "--worker-class", "asgi"),
            *("--workers", "1", "--no-control-socket", "--bind", self.address),
            **settings,
        )

    def answers(self) -> bool:
        try:
            return self.send("GET", "/healthz")[0] < 500
        except OSError:
            return False

    def send(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, Any]:
        parts = urlsplit(f"http://{self.address}")
        server = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=60)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            content = {"Content-Type": "application/json", **named}
            server.request(method, path, json.dumps(body) if body else None, content)
            answer = server.getresponse()
            text = answer.read()
            is_json = "json" in (answer.getheader("Content-Type") or "")
            return answer.status, json.loads(text) if is_json else text
        finally:
            server.close()


def test_an_api_killed_before_its_answer_made_one_run_for_the_key(
    database: None, valkey_url: str, tmp_path: Path
) -> None:
    person = User.objects.create_superuser("caller", password="a-long-password")
    task = make_task()
    committed = tmp_path / "committed"
    with platform(valkey_url, tmp_path) as started:
        mute = Web(
            started,
            "tests.faults.mute_asgi:application",
            GNOMON_COMMITTED=str(committed),
        )
        until(mute.answers, started)
        headers = {
            "Authorization": f"Bearer {AccessToken.for_user(person)}",
            "Idempotency_Key": "order-66",
        }
        path = f"/api/v1/tasks/{task.name}/runs"
        ends: list[BaseException] = []

        def call() -> None:
            try:
                mute.send("POST", path, {"reason": "once"}, **headers)
            except (OSError, http.client.HTTPException) as error:
                ends.append(error)

        caller = threading.Thread(target=call)
        caller.start()
        until(committed.exists, started)
        os.killpg(mute.process.pid, signal.SIGKILL)
        caller.join(20)
        assert ends, "the caller was to get no answer"
        (run,) = TaskRun.objects.filter(task=task)
        sound = Web(started, "scheduler_project.asgi:application")
        until(sound.answers, started)
        for _ in range(2):
            status, answer = sound.send("POST", path, {"reason": "once"}, **headers)
            assert (status, answer["id"]) == (202, run.pk)
        assert TaskRun.objects.filter(task=task).count() == 1
