"""The product's API, as the measurements use it."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import httpx2

from scheduler_project.bench.rig import READY_SECONDS, Rig
from scheduler_project.bench.workload import BenchError
from scheduler_project.local.bootstrap import ADMIN
from scheduler_project.local.supervisor import Supervisor

REQUEST_SECONDS = 10.0
CONNECTIONS = 20


@dataclass(frozen=True, slots=True)
class Api:
    """Where it answers, and the headers of an administrator who has signed in."""

    url: str
    headers: dict[str, str]

    def client(self) -> httpx2.Client:
        return httpx2.Client(
            base_url=self.url, headers=self.headers, timeout=REQUEST_SECONDS
        )

    def async_client(self) -> httpx2.AsyncClient:
        """One whose requests wait for a connection as long as it takes."""
        return httpx2.AsyncClient(
            base_url=self.url,
            headers=self.headers,
            timeout=httpx2.Timeout(REQUEST_SECONDS, pool=None),
            limits=httpx2.Limits(max_connections=CONNECTIONS),
        )


def api_start(rig: Rig, services: Supervisor) -> Api:
    """Start the web service and sign in.

    Raises:
        NotReadyError: it does not answer in time.
        BenchError: it does not let the administrator in.
    """
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # else a line a request
    url = rig.start_web(services)
    with httpx2.Client(base_url=url, timeout=REQUEST_SECONDS) as client:
        services.wait_until(lambda: _answers(client), "web", READY_SECONDS)
        answer = client.post(
            "/api/v1/auth/token", json={"username": ADMIN, "password": rig.password}
        )
    if not answer.is_success:
        raise BenchError(f"signing in was answered with {answer.status_code}")
    return Api(url, {"Authorization": f"Bearer {answer.json()['access']}"})


def _answers(client: httpx2.Client) -> bool:
    try:
        return client.get("/readyz").status_code == 200
    except httpx2.HTTPError:
        return False
