"""Reading a long history: how soon each list, filter and page answers.

The requests go through Django's own client, without HTTP: what is measured is the
views, their SQL and the serialising.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from statistics import median
from typing import Any
from urllib.parse import urlencode

from django.contrib.auth import get_user_model
from django.test import Client
from django.utils.dateparse import parse_datetime

from scheduler_project.bench.history_rows import history_create
from scheduler_project.bench.report import Row
from scheduler_project.bench.rig import Rig

TARGET_MS = 100
ROUNDS = 5
API, ADMIN = "/api/v1", "/admin"


@dataclass(frozen=True, slots=True)
class Case:
    """A request that someone makes. `group` is the figure that it counts for."""

    group: str
    url: str


@dataclass(frozen=True, slots=True)
class Answered:
    case: Case
    worst_ms: float
    median_ms: float
    results: int


def history(rig: Rig, *, runs: int) -> Iterator[Row]:
    """Fill the empty database with `runs` runs of thirteen months, and read them.

    Yields the slowest answer of each group of requests.
    """
    history_create(runs, rig.plan.tell)
    yield from rows(list(measure()), runs)


def rows(answers: list[Answered], runs: int) -> Iterator[Row]:
    """The slowest of each group, by the medians of their rounds."""
    for group in dict.fromkeys(answer.case.group for answer in answers):
        of_group = [answer for answer in answers if answer.case.group == group]
        slowest = max(of_group, key=lambda answer: answer.median_ms)
        many = f", slowest of {len(of_group)}" if len(of_group) > 1 else ""
        yield Row(
            name=f"{runs:,} runs: {group}{many}",
            value=slowest.median_ms,
            unit="ms",
            target=TARGET_MS,
            is_delay=True,
        )


def measure() -> Iterator[Answered]:
    """Each request, ROUNDS times, after one that warms the process up."""
    users = get_user_model()._default_manager
    user = users.filter(is_superuser=True).first() or users.create_superuser("bench")
    client = Client(SERVER_NAME="127.0.0.1")
    client.force_login(user)
    ask(client, Case("", f"{API}/runs?limit=1"))
    for case in cases(client):
        yield ask(client, case)


def ask(client: Client, case: Case) -> Answered:
    took: list[float] = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        response = client.get(case.url)
        took.append((time.perf_counter() - begun) * 1000)
        if response.status_code != 200:
            raise RuntimeError(f"{case.url}: {response.status_code}")
    is_json = response["Content-Type"] == "application/json"
    results = len(response.json().get("results", ())) if is_json else 0
    return Answered(case, max(took), median(took), results)


def cases(client: Client) -> Iterator[Case]:
    """The requests, with values that are common, rare, long gone, and unknown."""
    yield Case("first page of runs", f"{API}/runs")
    newest = _json(client, f"{API}/runs?limit=500&status=succeeded")["results"]
    for filters in _filters(client, newest):
        url = f"{API}/runs?{urlencode(filters, doseq=True)}"
        yield Case("runs by a filter", url)
        if following := _json(client, url)["next"]:
            yield Case("runs by a filter, next page", following)
    run, task = newest[0], newest[0]["task"]["id"]
    yield Case("run page", f"{ADMIN}/tasks_app/taskrun/{run['id']}/")
    yield Case("run page", f"{API}/runs/{run['id']}")
    yield Case("run page", f"{API}/runs/{run['id']}/events")
    yield Case("task page", f"{ADMIN}/tasks_app/task/{task}/")
    yield Case("task page", f"{API}/tasks/{task}")
    yield Case("task page", f"{API}/tasks/{task}/runs")
    yield Case("list of tasks", f"{API}/tasks")
    yield Case("list of tasks", f"{ADMIN}/tasks_app/task/")
    yield Case("dashboard", f"{ADMIN}/")
    yield Case("dashboard", f"{API}/stats")
    yield Case("workers, queues, alerts", f"{API}/workers")
    yield Case("workers, queues, alerts", f"{API}/queues")
    for page in ("workers_app/workerinfo", "tasks_app/queue", "tasks_app/alert"):
        yield Case("workers, queues, alerts", f"{ADMIN}/{page}/")
    for query in ADMIN_QUERIES:
        yield Case("admin's list of runs", f"{ADMIN}/tasks_app/taskrun/?{query}")


ADMIN_QUERIES = (
    "",
    "status=unfinished",
    "status=lost",
    "status=failed&worker=worker-39",
    "task=task-480",
    "task=task-4",
    "trigger=rerun",
    "trigger=backfill",
    "worker=worker-39",
    "worker=nobody",
    "window=1h",
    "window=7d&status=expired",
)


def _filters(client: Client, newest: list[Any]) -> Iterator[Mapping[str, Any]]:
    for status in ("succeeded", "failed", "lost", "expired", "queued", "running"):
        yield {"status": status}
    yield {"status": ["failed", "lost", "timed_out"]}
    yield {"status": ["lost", "queued"]}
    for task in ("task-000", "task-480", "task-445", "task-499", "unknown"):
        yield {"task": task}
    for project in ("project-0", "project-11", "unknown"):
        yield {"project": project}
    for trigger in ("schedule", "dependency", "api", "rerun", "backfill"):
        yield {"trigger": trigger}
    for worker in ("worker-00", "worker-38", "worker-39", "unknown"):
        yield {"worker": worker}
    for queue in ("default", "gpu", "unknown"):
        yield {"queue": queue}
    yield from _times(newest)
    yield from COMBINED
    child = _json(client, f"{API}/runs?trigger=dependency&limit=1")["results"][0]
    yield {"root": child["root"]}
    yield {"root": child["root"], "status": "failed"}
    yield {"root": 1}


def _times(newest: list[Any]) -> Iterator[Mapping[str, Any]]:
    now = parse_datetime(newest[0]["started_at"])
    assert now  # noqa: S101 - it has succeeded
    hour, month = timedelta(hours=1), timedelta(days=30)
    yield {"started_after": (now + month).isoformat()}
    yield {"started_after": (now - hour).isoformat()}
    yield {"started_after": (now - hour).isoformat(), "worker": "worker-38"}
    yield {"started_after": (now - 6 * month).isoformat(), "status": "lost"}
    yield {"started_before": (now - 6 * month).isoformat()}
    yield {"started_before": (now - 12 * month).isoformat(), "worker": "worker-39"}
    yield {"started_before": (now - 100 * month).isoformat()}
    window = (now - 5 * month, now - 5 * month + hour)
    yield {
        "started_after": window[0].isoformat(),
        "started_before": window[1].isoformat(),
        "status": ["failed", "timed_out"],
    }


COMBINED: tuple[Mapping[str, Any], ...] = (
    {"task": "task-000", "status": "failed"},
    {"task": "task-000", "status": "lost"},
    {"task": "task-480", "status": "expired"},
    {"project": "project-3", "status": "lost", "trigger": "api"},
    {"project": "project-11", "status": "failed"},
    {"worker": "worker-38", "status": "expired"},
    {"queue": "gpu", "status": "failed"},
    {"queue": "gpu", "worker": "worker-39", "trigger": "rerun"},
    {"trigger": "backfill", "status": ["failed", "lost"]},
)


def _json(client: Client, url: str) -> Any:
    return client.get(url).json()
