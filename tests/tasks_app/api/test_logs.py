"""A run's output: in chunks, as text, and live."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.db import connection
from rest_framework.test import APIClient
from rest_framework_simplejwt.tokens import AccessToken

from scheduler_project.handler import Handler
from tasks_app import ledger
from tasks_app.api.v1 import log_stream
from tasks_app.api.v1.logs import SEQS_PER_ATTEMPT
from tasks_app.models import TaskRun
from tests.factories import claim, end, make_run, make_task, shift
from tests.tasks_app.api.conftest import make_user

pytestmark = pytest.mark.django_db


def write(run: TaskRun, *texts: str, attempt: int = 1, first: int = 1) -> None:
    ledger.append_logs(
        [
            ledger.LogChunk(run.pk, attempt, seq, "stdout", text, 0.0)
            for seq, text in enumerate(texts, first)
        ]
    )


def url(run: TaskRun, below: str = "") -> str:
    return f"/api/v1/runs/{run.pk}/logs{below}"


def texts(response: Any) -> list[str]:
    assert response.status_code == 200, response.content
    return [chunk["text"] for chunk in response.json()["results"]]


def retried(run: TaskRun) -> TaskRun:
    """Let the running attempt fail, and start the next."""
    claimed = claim(run)
    ledger.finish(
        [ledger.Finish(claimed.run_id, claimed.attempt, "failed", retry_seconds=0)]
    )
    shift(TaskRun, run.pk, 5, "due_at")
    claim(run)
    return run


def test_chunks_come_in_order_and_go_on_where_they_ended(reader: APIClient) -> None:
    run = make_run()
    claim(run)
    write(run, "a\n", "b\n", "c\n")
    first = reader.get(url(run), {"limit": 2})
    assert texts(first) == ["a\n", "b\n"]
    chunk = first.json()["results"][0]
    assert chunk["seq"] == 1
    assert chunk["attempt"] == 1
    assert chunk["stream"] == "stdout"
    assert chunk["at"].endswith("Z")
    assert first.json()["next_after"] == 2
    assert first.json()["is_complete"] is False
    rest = reader.get(url(run), {"after": first.json()["next_after"]})
    assert texts(rest) == ["c\n"]
    assert rest.json()["next_after"] == 3
    none = reader.get(url(run), {"after": 3})
    assert none.json() == {"results": [], "next_after": 3, "is_complete": False}


def test_one_number_goes_on_over_attempts(reader: APIClient) -> None:
    run = retried(make_run(make_task(max_attempts=2, delivery="at_least_once")))
    write(run, "first 1\n", "first 2\n")
    write(run, "second 1\n", attempt=2)
    assert texts(reader.get(url(run))) == ["first 1\n", "first 2\n", "second 1\n"]
    assert texts(reader.get(url(run), {"after": 1})) == ["first 2\n", "second 1\n"]
    rest = reader.get(url(run), {"after": 2})
    assert texts(rest) == ["second 1\n"]
    assert rest.json()["next_after"] == SEQS_PER_ATTEMPT + 1
    assert texts(reader.get(url(run), {"after": SEQS_PER_ATTEMPT + 1})) == []
    assert texts(reader.get(url(run), {"attempt": 2})) == ["second 1\n"]
    assert texts(reader.get(url(run), {"attempt": 3})) == []


def test_the_end_of_a_finished_runs_output_is_told(reader: APIClient) -> None:
    run = make_run()
    claimed = claim(run)
    write(run, "a\n")
    ledger.finish([ledger.Finish(claimed.run_id, claimed.attempt, "succeeded")])
    began = time.monotonic()
    assert reader.get(url(run), {"wait": 20}).json()["is_complete"] is True
    body = reader.get(url(run), {"wait": 20, "after": 1}).json()
    assert body == {"results": [], "next_after": 1, "is_complete": True}
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "query",
    [
        "after=-1",
        "after=x",
        "after=9007199254740992",
        "limit=0",
        "limit=1001",
        "attempt=0",
        "attempt=2147483648",
        "wait=31",
        "stream=stderr",
    ],
)
def test_logs_refuse_a_query(reader: APIClient, query: str) -> None:
    response = reader.get(f"{url(make_run())}?{query}")
    assert response.status_code == 400
    assert response.json()["errors"][0]["parameter"] == query.partition("=")[0]


def test_the_farthest_place_is_a_place(reader: APIClient) -> None:
    assert texts(reader.get(url(make_run()), {"after": 2**53 - 1})) == []


def test_plain_text_is_the_output_and_nothing_else(reader: APIClient) -> None:
    run = make_run()
    claim(run)
    write(run, *(f"line {number} <b>字</b>\n" for number in range(150)))
    response = reader.get(url(run, ".txt"))
    text = b"".join(response).decode()
    assert text == "".join(f"line {number} <b>字</b>\n" for number in range(150))
    assert response["Content-Type"] == "text/plain; charset=utf-8"
    assert response["X-Content-Type-Options"] == "nosniff"
    assert f'filename="run-{run.pk}.log"' in response["Content-Disposition"]


def test_plain_text_of_one_attempt(reader: APIClient) -> None:
    run = retried(make_run(make_task(max_attempts=2, delivery="at_least_once")))
    write(run, "first")
    write(run, "second", attempt=2)
    response = reader.get(url(run, ".txt?attempt=2"))
    assert b"".join(response) == b"second"


# --- live ----------------------------------------------------------------------------


def parse(stream: str) -> list[tuple[str, Any, str | None]]:
    """(event, data, id) of each event."""
    events = []
    for block in stream.split("\n\n"):
        fields = dict(
            line.split(": ", 1) for line in block.splitlines() if ": " in line
        )
        if "event" in fields:
            events.append(
                (fields["event"], json.loads(fields["data"]), fields.get("id"))
            )
    return events


def finished_run() -> TaskRun:
    run = make_run()
    claimed = claim(run)
    write(run, "a\n", "b\n")
    ledger.finish(
        [ledger.Finish(claimed.run_id, claimed.attempt, "succeeded", exit_code=0)]
    )
    return run


def test_a_stream_of_a_finished_run_tells_all_and_ends(reader: APIClient) -> None:
    run = finished_run()
    response = reader.get(url(run, "/stream"))
    assert response["Content-Type"] == "text/event-stream"
    assert response["X-Accel-Buffering"] == "no"
    assert "no-cache" in response["Cache-Control"]
    body = b"".join(response).decode()
    log, state, end_ = parse(body)
    assert log[0] == "log"
    assert [chunk["text"] for chunk in log[1]] == ["a\n", "b\n"]
    assert log[2] == "2"
    assert state[0] == "state"
    assert state[1]["status"] == "succeeded"
    assert end_[0] == "end"
    assert end_[1]["status"] == "succeeded"
    assert end_[1]["exit_code"] == 0
    assert end_[1]["duration_seconds"] >= 0
    assert not log_stream._open_streams


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ({"Last-Event-ID": "1"}, ""),
        ({}, "?after=1"),
        ({"Last-Event-ID": "1"}, "?after=0"),
    ],
)
def test_a_stream_goes_on_where_it_broke(
    reader: APIClient, headers: dict[str, str], query: str
) -> None:
    run = finished_run()
    response = reader.get(url(run, f"/stream{query}"), headers=headers)
    log, *_ = parse(b"".join(response).decode())
    assert [chunk["text"] for chunk in log[1]] == ["b\n"]


@pytest.mark.parametrize("value", ["x", "-1", "9" * 30, "\u0661"])
def test_a_strange_last_event_id_begins_anew(reader: APIClient, value: str) -> None:
    run = finished_run()
    response = reader.get(
        url(run, "/stream"), headers={"Last-Event-ID": value.encode().decode("latin-1")}
    )
    log, *_ = parse(b"".join(response).decode())
    assert len(log[1]) == 2


def test_too_many_streams_are_told_to_poll(
    reader: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_stream, "MAX_STREAMS", 0)
    reader.raise_request_exception = False
    response = reader.get(url(make_run(), "/stream"))
    assert response.status_code == 503
    assert response["Retry-After"] == "10"
    assert response.json()["code"] == "too_many_streams"


def test_a_stream_pings_while_nothing_happens(
    monkeypatch: pytest.MonkeyPatch, reader: APIClient
) -> None:
    monkeypatch.setattr(log_stream, "PING_SECONDS", 0.0)
    monkeypatch.setattr(log_stream, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(log_stream, "MAX_SECONDS", 0.2)
    body = b"".join(reader.get(url(make_run(), "/stream"))).decode()
    assert ": ping" in body
    assert "event: end" not in body


def test_a_stream_ends_for_whoever_may_not_read_any_more(
    monkeypatch: pytest.MonkeyPatch, reader: APIClient
) -> None:
    monkeypatch.setattr(log_stream, "RECHECK_SECONDS", 0.0)
    monkeypatch.setattr(log_stream, "POLL_SECONDS", 0.01)
    response = reader.get(url(make_run(), "/stream"))
    User.objects.update(is_active=False)
    assert parse(b"".join(response).decode()) == []


@pytest.fixture
def served(committed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the web service has it: no thread keeps a connection after its request."""
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", 0)


class Live:
    """A stream over ASGI, read as it comes."""

    def __init__(self, path: str, token: str) -> None:
        path, _, query = path.partition("?")
        self._scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "GET",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [
                (b"host", b"testserver"),
                (b"authorization", f"Bearer {token}".encode()),
            ],
            "client": ("127.0.0.1", 1),
            "server": ("testserver", 80),
            "scheme": "http",
        }
        self.status = 0
        self._sent: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()
        self._gone = asyncio.Event()
        self._has_asked = False

    async def _receive(self) -> dict[str, Any]:
        if not self._has_asked:
            self._has_asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Mapping[str, Any]) -> None:
        await self._sent.put(message)

    async def texts(self) -> AsyncIterator[str]:
        app = asyncio.create_task(Handler()(self._scope, self._receive, self._send))
        try:
            while True:
                message = await asyncio.wait_for(self._sent.get(), 20)
                if message["type"] == "http.response.start":
                    self.status = message["status"]
                elif not message.get("more_body"):
                    return
                else:
                    yield message["body"].decode()
        finally:
            self._gone.set()
            await asyncio.wait_for(app, 20)


@pytest.mark.django_db(transaction=True)
def test_output_reaches_a_follower_while_the_run_goes_on(served: None) -> None:
    """Over ASGI: each step of the run is seen before the next is made."""
    token = str(AccessToken.for_user(make_user("follower", "view_taskrun")))
    run = make_run()

    async def follow() -> list[str]:
        seen = []
        live = Live(url(run, "/stream"), token)
        async for text in live.texts():
            for name, data, _id in parse(text):
                seen.append(name if name != "state" else data["status"])
                await sync_to_async(step)(seen[-1])
        assert live.status == 200
        return seen

    def step(seen: str) -> None:
        if seen == "queued":
            claim(run)
        elif seen == "running":
            write(run, "hello\n")
        elif seen == "log":
            ledger.finish([ledger.Finish(run.pk, 1, "succeeded")])
        connection.close()

    assert asyncio.run(follow()) == [
        "queued",
        "running",
        "log",
        "succeeded",
        "end",
    ]
    assert not log_stream._open_streams


@pytest.mark.django_db(transaction=True)
def test_a_follower_who_leaves_takes_the_stream_along(served: None) -> None:
    token = str(AccessToken.for_user(make_user("follower", "view_taskrun")))
    run = make_run()

    async def look_in() -> None:
        texts = Live(url(run, "/stream"), token).texts()
        await anext(texts)
        assert len(log_stream._open_streams) == 1
        await texts.aclose()  # type: ignore[attr-defined]
        assert not log_stream._open_streams

    asyncio.run(look_in())


@pytest.mark.django_db(transaction=True)
def test_plain_text_streams_over_asgi(served: None) -> None:
    token = str(AccessToken.for_user(make_user("follower", "view_taskrun")))
    run = make_run()
    claim(run)
    write(run, *(f"{number}\n" for number in range(100)))

    async def read() -> str:
        return "".join([text async for text in Live(url(run, ".txt"), token).texts()])

    assert asyncio.run(read()) == "".join(f"{number}\n" for number in range(100))


@pytest.mark.django_db(transaction=True)
def test_a_wait_for_output_ends_with_output(committed: None, reader: APIClient) -> None:
    run = make_run()
    claim(run)

    def write_soon() -> None:
        time.sleep(0.4)
        write(run, "late\n")
        connection.close()

    writer = threading.Thread(target=write_soon)
    writer.start()
    began = time.monotonic()
    assert texts(reader.get(url(run), {"wait": 20})) == ["late\n"]
    assert time.monotonic() - began < 10
    writer.join()


def test_a_wait_for_output_ends_with_the_run(reader: APIClient) -> None:
    run = end(make_run())
    assert reader.get(url(run), {"wait": 20}).json()["is_complete"] is True
