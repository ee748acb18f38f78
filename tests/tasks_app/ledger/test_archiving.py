"""Archiving: a month moves whole, and is read where it is, whatever stops the move."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from io import StringIO
from typing import Any

import psycopg
import pytest
from django.core.management import call_command
from django.db import connection, connections
from django.test import Client
from rest_framework.test import APIClient

from tasks_app.ledger import archiving
from tasks_app.ledger.partitions import TABLES, partitions
from tasks_app.ledger.verifying import Verifier
from tasks_app.models import ArchivedMonth, RunEvent, RunLog, Task, TaskRun, TaskVersion
from tasks_app.rules.run_ids import first_id
from tests.factories import make_task, make_worker

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "history"]),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="moves partitions"),
]

NAME = f"{connection.settings_dict['NAME']}_history"
MONTHS = (date(2026, 1, 1), date(2026, 2, 1), date(2026, 3, 1))
MADE = date(2026, 4, 1)
BEFORE = "2026-03-01"
PER_MONTH = 6


@pytest.fixture(scope="module")
def history_server(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """A second database, with the tables that migrations make."""
    with django_db_blocker.unblock():
        settings = connection.get_connection_params()
        address = {
            key: settings[key]
            for key in ("host", "port", "user", "password")
            if settings.get(key)
        }
        with psycopg.connect(**address, dbname="postgres", autocommit=True) as server:
            server.execute(f'DROP DATABASE IF EXISTS "{NAME}" WITH (FORCE)')
            server.execute(f'CREATE DATABASE "{NAME}"')
            connections.databases["history"] = {
                **connection.settings_dict,
                "NAME": NAME,
            }
            try:
                call_command("migrate", database="history", verbosity=0)
                connections["history"].close()
                yield
            finally:
                connections["history"].close()
                del connections["history"]
                del connections.databases["history"]
                server.execute(f'DROP DATABASE "{NAME}" WITH (FORCE)')


@pytest.fixture
def runs(history_server: None) -> Iterator[list[TaskRun]]:
    """Finished runs of three months, in partitions of their own, with an event and
    output each."""
    _partition(MONTHS)
    version = TaskVersion.objects.get(task=make_task(name="nightly"))
    worker = make_worker("w-1")
    made = TaskRun.objects.bulk_create(
        _run(month, number, version, worker.pk)
        for month in MONTHS
        for number in range(1, PER_MONTH + 1)
    )
    RunEvent.objects.bulk_create(
        RunEvent(run=run, at=run.created_at, kind="created", attempt=0, status="queued")
        for run in made
    )
    RunLog.objects.bulk_create(
        RunLog(
            run=run,
            attempt=1,
            seq=1,
            at=run.created_at,
            stream="stdout",
            text=f"hello from {run.pk}\n",
        )
        for run in made
    )
    yield made
    _unpartition()


def _run(month: date, number: int, version: TaskVersion, worker_id: int) -> TaskRun:
    day = month + timedelta(days=number)
    at = datetime(day.year, day.month, day.day, 3, tzinfo=UTC)
    return TaskRun(
        pk=first_id(day) + number,
        task_id=version.task_id,
        version=version,
        trigger="schedule",
        scheduled_for=at,
        created_at=at,
        due_at=at,
        started_at=at,
        completed_at=at + timedelta(seconds=9),
        status="failed" if number == 2 else "succeeded",
        queue="slow" if number == 3 else "default",
        attempt=1,
        worker_id=worker_id,
        params={"DAY": f"{day} é ü"},
    )


def _partition(months: tuple[date, ...]) -> None:
    """The partitions as they are after some months."""
    with connection.cursor() as cursor:
        for table in TABLES:
            first = f"{table}_first"
            cursor.execute(f"ALTER TABLE {table} DETACH PARTITION {first}")
            ends = [*months[1:], MADE]
            for begin, end in zip(months, ends, strict=True):
                leaf = f"{table}_{begin:%Y%m}"
                cursor.execute(f"CREATE TABLE {leaf} (LIKE {first} INCLUDING ALL)")
                cursor.execute(
                    f"ALTER TABLE {table} ATTACH PARTITION {leaf}"
                    f" FOR VALUES FROM ({first_id(begin)}) TO ({first_id(end)})"
                )


def _unpartition() -> None:
    """As migrations leave it; and the history empty."""
    ahead = min(each.begin for each in partitions() if each.begin and each.begin > MADE)
    for table in TABLES:
        for month in MONTHS:
            leaf = f"{table}_{month:%Y%m}"
            for alias in ("default", "history"):
                with connections[alias].cursor() as cursor:
                    cursor.execute(f"DROP TABLE IF EXISTS {leaf}")
        with connection.cursor() as cursor:
            cursor.execute(f"TRUNCATE {table}_default")
            cursor.execute(
                f"ALTER TABLE {table} ATTACH PARTITION {table}_first"
                f" FOR VALUES FROM (MINVALUE) TO ({first_id(ahead)})"
            )


@pytest.fixture
def admin(admin_user: Any) -> APIClient:
    client = APIClient()
    client.force_authenticate(admin_user)
    return client


@contextmanager
def history_away() -> Iterator[None]:
    """Where the history database should be, nothing listens."""
    there = connections.databases["history"]
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        nowhere = {"HOST": "127.0.0.1", "PORT": str(server.getsockname()[1])}
        connections["history"].close()
        del connections["history"]
        connections.databases["history"] = {**there, **nowhere}
        try:
            yield
        finally:
            connections["history"].close()
            del connections["history"]
            connections.databases["history"] = there


def archive(*options: str) -> dict[str, Any]:
    out = StringIO()
    call_command("archive", "--json", *options, stdout=out, stderr=StringIO())
    found: dict[str, Any] = json.loads(out.getvalue())
    return found


def listed(client: APIClient, query: str = "") -> list[int]:
    """The runs of all pages."""
    url: str | None = f"/api/v1/runs?limit=4&{query}"
    found: list[int] = []
    while url:
        answer = client.get(url).json()
        found += [run["id"] for run in answer["results"]]
        url = answer["next"]
    return found


def test_a_month_moves_whole_and_its_runs_are_read_as_before(
    runs: list[TaskRun], admin: APIClient
) -> None:
    ids = [run.pk for run in reversed(runs)]
    old = runs[0]
    before = admin.get(f"/api/v1/runs/{old.pk}").json()
    assert archive("--before", BEFORE) == {
        "moved": [
            {"name": name, "rows": dict.fromkeys(TABLES, PER_MONTH)}
            for name in ("202601", "202602")
        ]
    }
    assert TaskRun.objects.count() == PER_MONTH
    assert listed(admin) == ids
    assert admin.get(f"/api/v1/runs/{old.pk}").json() == before
    events = admin.get(f"/api/v1/runs/{old.pk}/events").json()["results"]
    assert [event["kind"] for event in events] == ["created"]
    logs = admin.get(f"/api/v1/runs/{old.pk}/logs").json()
    assert logs["results"][0]["text"] == f"hello from {old.pk}\n"
    assert logs["is_complete"]
    text = admin.get(f"/api/v1/runs/{old.pk}/logs.txt")
    assert b"".join(text) == f"hello from {old.pk}\n".encode()
    told = admin.get(f"/api/v1/runs/{old.pk}/explain").json()
    assert told["summary"].startswith("it ended: succeeded")


@pytest.mark.parametrize(
    ("query", "chosen"),
    [
        ("status=failed", lambda run: run.status == "failed"),
        ("queue=slow", lambda run: run.queue == "slow"),
        ("worker=w-1", lambda run: True),
        ("task=nightly&status=failed", lambda run: run.status == "failed"),
        ("project=default", lambda run: True),
        ("started_before=2026-02-03T00:00:00Z", lambda run: run.pk < 2602030000000000),
        ("worker=nobody", lambda run: False),
    ],
)
def test_lists_go_on_into_the_history_with_their_filters(
    query: str, chosen: Any, runs: list[TaskRun], admin: APIClient
) -> None:
    archive("--before", BEFORE)
    assert listed(admin, query) == [run.pk for run in reversed(runs) if chosen(run)]


def test_pages_lead_back_from_the_history(
    runs: list[TaskRun], admin: APIClient
) -> None:
    archive("--before", BEFORE)
    ids = [run.pk for run in reversed(runs)]
    answer = admin.get(f"/api/v1/runs?limit=4&cursor=b{ids[7]}").json()
    assert [run["id"] for run in answer["results"]] == ids[8:12]
    answer = admin.get(answer["previous"]).json()
    assert [run["id"] for run in answer["results"]] == ids[4:8]


def test_the_console_shows_archived_runs(
    runs: list[TaskRun], admin_client: Client
) -> None:
    archive("--before", BEFORE)
    page = admin_client.get(f"/admin/tasks_app/taskrun/{runs[0].pk}/")
    assert "nightly" in page.content.decode()
    assert f"hello from {runs[0].pk}" in page.content.decode()
    listing = admin_client.get("/admin/tasks_app/taskrun/?status=failed")
    assert [run.pk for run in listing.context["runs"]] == [
        run.pk for run in reversed(runs) if run.status == "failed"
    ]


def test_a_run_of_the_history_can_be_run_again(
    runs: list[TaskRun], admin: APIClient
) -> None:
    archive("--before", BEFORE)
    answer = admin.post(f"/api/v1/runs/{runs[0].pk}/rerun", {}, format="json")
    assert answer.status_code == 202, answer.json()
    assert answer.json()["rerun_of"] == runs[0].pk
    refused = admin.post(f"/api/v1/runs/{runs[0].pk}/cancel", {}, format="json")
    assert refused.json()["code"] == "run_already_finished"


def test_what_failed_in_a_workflow_of_the_history_can_be_run_again(
    runs: list[TaskRun], admin: APIClient
) -> None:
    archive("--before", BEFORE)
    failed = next(run for run in runs if run.status == "failed")
    url = f"/api/v1/runs/{failed.pk}/rerun"
    answer = admin.post(url, {"from": "failed"}, format="json")
    assert answer.status_code == 202, answer.json()
    assert answer.json()["rerun_of"] == failed.pk


def test_fires_of_the_history_are_neither_gaps_nor_unexplained(
    runs: list[TaskRun], admin: APIClient
) -> None:
    task = make_task(name="early", cron="0 3 * * *")
    Task.objects.update(created_at=datetime(2026, 1, 1, tzinfo=UTC))
    TaskRun.objects.filter(pk=runs[0].pk).update(task=task)
    archive("--before", BEFORE)
    url = "/api/v1/tasks/early/explain?at=2026-01-02T03:00:00Z"
    assert admin.get(url).json()["runs"] == [runs[0].pk]
    found = list(Verifier(None, datetime(2026, 3, 1, tzinfo=UTC)).findings(task.pk))
    assert found == []


STEPS = ("_copy", "_hand_over", "_sum", "finish_archive")


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("call", [1, 2, 5])
def test_whatever_stops_it_nothing_is_lost_or_doubled(
    step: str,
    when: str,
    call: int,
    runs: list[TaskRun],
    admin: APIClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ids = [run.pk for run in reversed(runs)]
    with monkeypatch.context() as patch:
        patch.setattr(archiving, step, killed_at(getattr(archiving, step), when, call))
        try:
            for partition in archiving.archivable(date(2026, 3, 1)):
                archiving.archive(partition, lambda _: None)
        except Killed:
            pass
    assert listed(admin) == ids
    archive("--before", BEFORE)
    assert listed(admin) == ids
    assert TaskRun.objects.count() == PER_MONTH
    assert TaskRun.objects.using("history").count() == 2 * PER_MONTH
    assert RunLog.objects.using("history").count() == 2 * PER_MONTH
    assert not ArchivedMonth.objects.filter(is_done=False).exists()
    assert archive("--before", BEFORE) == {"moved": []}


class Killed(BaseException):
    """What no code of the product handles."""


def killed_at(function: Any, when: str, call: int) -> Any:
    calls = 0

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call and when == "before":
            raise Killed
        result = function(*args, **kwargs)
        if calls == call:
            raise Killed
        return result

    return wrapped


def test_what_comes_late_is_copied_too(
    runs: list[TaskRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the copy and the hand-over."""
    hand_over = archiving._hand_over

    def late(partition: Any) -> Any:
        run = runs[0]
        RunEvent.objects.create(
            run=run,
            at=run.created_at,
            kind="stale_result",
            attempt=1,
            status="succeeded",
        )
        return hand_over(partition)

    monkeypatch.setattr(archiving, "_hand_over", late)
    archiving.archive(archiving.archivable(date(2026, 2, 1))[0], lambda _: None)
    events = RunEvent.objects.using("history").filter(run=runs[0].pk)
    assert set(events.values_list("kind", flat=True)) == {"created", "stale_result"}


def test_a_month_with_an_unfinished_run_stays(
    runs: list[TaskRun], admin: APIClient
) -> None:
    TaskRun.objects.filter(pk=runs[0].pk).delete()
    run = runs[0]
    run.status, run.completed_at, run.attempt = "queued", None, 0
    run.save(force_insert=True)
    assert [month["name"] for month in archive("--before", BEFORE)["moved"]] == [
        "202602"
    ]
    assert listed(admin) == [run.pk for run in reversed(runs)]


def test_a_dry_run_says_what_would_move(runs: list[TaskRun]) -> None:
    found = archive("--before", BEFORE, "--dry-run")["would_move"]
    assert [month["name"] for month in found] == ["202601", "202602"]
    assert TaskRun.objects.count() == len(runs)


class TestWhileTheHistoryIsAway:
    """What the default database has is answered, and that it is not all."""

    AWAY = "The history database does not answer"

    def test_lists_have_what_is_here_and_say_that_it_is_not_all(
        self, runs: list[TaskRun], admin: APIClient, admin_client: Client
    ) -> None:
        archive("--before", BEFORE)
        here = [run.pk for run in reversed(runs)][:PER_MONTH]
        with history_away():
            whole = admin.get(f"/api/v1/runs?limit={PER_MONTH - 1}").json()
            assert whole["history_unreachable"] is False
            short = admin.get("/api/v1/runs").json()
            assert [run["id"] for run in short["results"]] == here
            assert short["history_unreachable"] is True
            up = admin.get("/api/v1/runs", {"cursor": "a1"}).json()
            assert up["history_unreachable"] is True
            page = admin_client.get("/admin/tasks_app/taskrun/")
            assert [run.pk for run in page.context["runs"]] == here
            assert self.AWAY in page.content.decode()
        again = admin.get("/api/v1/runs").json()
        assert again["history_unreachable"] is False
        assert len(again["results"]) == len(runs)

    def test_what_can_only_be_there_is_unreachable_and_not_missing(
        self, runs: list[TaskRun], admin: APIClient, admin_client: Client
    ) -> None:
        archive("--before", BEFORE)
        old, new = runs[0], runs[-1]
        admin.raise_request_exception = False
        with history_away():
            for what in ("", "/events", "/logs", "/logs.txt", "/explain"):
                answer = admin.get(f"/api/v1/runs/{old.pk}{what}")
                assert answer.status_code == 503, what
                assert answer.json()["code"] == "history_unreachable"
                assert answer["Retry-After"]
                assert admin.get(f"/api/v1/runs/{new.pk}{what}").status_code == 200
            page = admin_client.get(f"/admin/tasks_app/taskrun/{old.pk}/")
            assert page.status_code == 503
            assert self.AWAY in page.content.decode()

    def test_the_page_of_a_run_here_says_that_its_relatives_are_missing(
        self, runs: list[TaskRun], admin_client: Client
    ) -> None:
        old, new = runs[0], runs[-1]
        TaskRun.objects.filter(pk=new.pk).update(rerun_of=old.pk)
        archive("--before", BEFORE)
        url = f"/admin/tasks_app/taskrun/{new.pk}/"
        assert self.AWAY not in admin_client.get(url).content.decode()
        with history_away():
            page = admin_client.get(url)
            assert page.status_code == 200
            assert self.AWAY in page.content.decode()

    def test_an_old_fire_is_explained_as_far_as_is_known(
        self, runs: list[TaskRun], admin: APIClient
    ) -> None:
        archive("--before", BEFORE)
        Task.objects.update(created_at="2025-01-01T00:00Z")
        old, new = runs[0], runs[-1]
        url = f"/api/v1/tasks/{old.task_id}/explain"
        with history_away():
            told = admin.get(url, {"at": old.scheduled_for.isoformat()}).json()
            (check,) = (each for each in told["checks"] if each["name"] == "history")
            assert not check["passed"]
            here = admin.get(url, {"at": new.scheduled_for.isoformat()}).json()
            assert here["summary"].startswith(f"it has run {new.pk}")
            assert "history" not in {each["name"] for each in here["checks"]}
