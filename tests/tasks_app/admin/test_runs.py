"""The list and the page of runs, their log and their buttons."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from tasks_app import ledger
from tasks_app.admin import run_list as module
from tasks_app.choices import RunStatus
from tasks_app.ledger import Finish, LogChunk
from tasks_app.models import TaskRun
from tests.factories import claim, end, make_run, make_task, make_worker, shift
from tests.tasks_app.admin.pages import RUNS, list_url, run_url, task_url

pytestmark = pytest.mark.django_db

NASTY = "<script>alert(1)</script>"


def shown(client: Client, query: str = "") -> list[int]:
    answer = client.get(list_url(RUNS) + query)
    assert answer.status_code == 200
    return [run.pk for run in answer.context["runs"]]


def write(run: TaskRun, *texts: str, stream: str = "stdout", first: int = 1) -> None:
    attempt = max(run.attempt, 1)
    ledger.append_logs(
        [
            LogChunk(run.pk, attempt, seq, stream, text)
            for seq, text in enumerate(texts, first)
        ]
    )


class TestList:
    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ("", {"done", "failed", "queued"}),
            ("?status=failed", {"failed"}),
            ("?status=unfinished", {"queued"}),
            ("?task=alpha", {"done", "failed"}),
            ("?task=alp", {"done", "failed"}),
            ("?task=unknown", set()),
            ("?trigger=admin", {"queued"}),
            ("?worker=w-1", {"failed"}),
            ("?window=1h", {"failed", "queued"}),
            ("?window=nonsense", set()),
            ("?task=99999999999999999999999", set()),
            ("?before=99999999999999999999999", {"done", "failed", "queued"}),
        ],
    )
    def test_filters(self, viewer: Client, query: str, expected: set[str]) -> None:
        alpha, beta = make_task(name="alpha"), make_task(name="beta")
        old = make_run(alpha)
        shift(TaskRun, old.pk, 7200, "scheduled_for")
        runs = {"done": end(old), "failed": make_run(alpha)}
        runs["queued"] = make_run(beta, trigger="admin")
        claimed = claim(runs["failed"], make_worker("w-1"))
        ledger.finish([Finish(claimed.run_id, 1, "failed", exit_code=127)])
        names = {run.pk: name for name, run in runs.items()}
        assert {names[pk] for pk in shown(viewer, query)} == expected

    def test_a_task_by_its_id(self, viewer: Client) -> None:
        run = make_run()
        make_run()
        assert shown(viewer, f"?task={run.task_id}") == [run.pk]

    def test_it_is_paged_newest_first_without_counting(
        self,
        viewer: Client,
        monkeypatch: pytest.MonkeyPatch,
        django_assert_num_queries: DjangoAssertNumQueries,
    ) -> None:
        monkeypatch.setattr(module, "PER_PAGE", 2)
        task = make_task()
        runs = [make_run(task).pk for _ in range(5)][::-1]
        # session, user, two of permissions; numbers of runs, runs; alerts
        with django_assert_num_queries(7) as captured:
            assert shown(viewer) == runs[:2]
        assert not any(
            'FROM "tasks_app_taskrun"' in query["sql"]
            for query in captured
            if "COUNT(" in query["sql"]
        )
        assert shown(viewer, f"?before={runs[1]}") == runs[2:4]
        answer = viewer.get(list_url(RUNS) + f"?before={runs[3]}")
        assert [run.pk for run in answer.context["runs"]] == runs[4:]
        assert answer.context["older_from"] is None

    def test_its_statements_do_not_grow_with_runs(
        self, viewer: Client, django_assert_num_queries: DjangoAssertNumQueries
    ) -> None:
        for _ in range(2):
            for _run in range(3):
                end(make_run(), "failed", error="it broke", exit_code=1)
            with django_assert_num_queries(7):
                shown(viewer)


class TestPage:
    def test_it_tells_all_about_a_run(self, viewer: Client) -> None:
        task = make_task(name="alpha", max_attempts=3)
        run = make_run(task, params={"DAY": "mon"})
        claimed = claim(run, make_worker("w-1"))
        run.refresh_from_db()
        write(run, "line one\n")
        ledger.finish(
            [
                Finish(
                    run.pk,
                    claimed.attempt,
                    "failed",
                    exit_code=127,
                    error="it broke",
                    reason="exit_code",
                    result={"rows": 42},
                )
            ]
        )
        text = viewer.get(run_url(run)).content.decode()
        for part in (
            "Failed", "command not found", "it broke", "1 / 3", "w-1", "by test",
            "&quot;DAY&quot;", "&quot;rows&quot;: 42", "line one", "Attempt 1",
        ):  # fmt: skip
            assert part in text

    def test_it_links_parents_children_and_reruns(self, operator: Client) -> None:
        parent = make_task(name="first")
        child = make_task(parent, name="second")
        root = end(make_run(parent))
        led_to = TaskRun.objects.get(task=child)
        operator.post(run_url(root, "rerun"))
        again = TaskRun.objects.get(rerun_of=root)
        text = operator.get(run_url(root)).content.decode()
        assert run_url(led_to) in text
        assert run_url(again) in text
        assert run_url(root) in operator.get(run_url(led_to)).content.decode()
        assert run_url(root) in operator.get(run_url(again)).content.decode()

    def test_a_run_of_a_deleted_task_stays_readable(self, operator: Client) -> None:
        run = end(make_run())
        operator.post(task_url(run.task, "delete"))
        text = operator.get(run_url(run)).content.decode()
        assert "deleted" in text
        assert "Run again" not in text
        answer = operator.post(run_url(run, "rerun"), follow=True)
        assert "has been deleted" in answer.content.decode()

    def test_what_a_job_says_is_inert(self, viewer: Client) -> None:
        run = make_run()
        claim(run)
        run.refresh_from_db()
        write(run, NASTY + "\n", NASTY)
        values = {"error": NASTY, "reason": NASTY, "result": {NASTY: NASTY}}
        ledger.finish([Finish(run.pk, 1, "failed", **values)])  # type: ignore[arg-type]
        text = viewer.get(run_url(run)).content.decode()
        assert NASTY not in text
        assert "&lt;script&gt;alert(1)" in text

    def test_its_statements_do_not_grow_with_events_and_lines(
        self, viewer: Client, django_assert_num_queries: DjangoAssertNumQueries
    ) -> None:
        run = make_run()
        claim(run)
        run.refresh_from_db()
        for first in (1, 4):
            write(run, "a\n", "b\n", "c\n", first=first)
            # session, user, two of permissions; run, events, the task's last
            # successes, the workflow below, log, children, reruns; alerts
            with django_assert_num_queries(12):
                viewer.get(run_url(run))


class TestLog:
    def read(self, client: Client, run: TaskRun, after: str = "") -> dict[str, Any]:
        answer = client.get(run_url(run, "log"), {"after": after})
        assert "no-store" in answer["Cache-Control"]
        found: dict[str, Any] = json.loads(answer.content)
        return found

    def test_it_goes_on_after_a_position(self, viewer: Client) -> None:
        run = make_run()
        claim(run)
        run.refresh_from_db()
        write(run, "one\n", "two")
        first = self.read(viewer, run)
        assert [chunk["text"] for chunk in first["chunks"]] == ["one\n", "two"]
        assert first["after"] == "1.2"
        assert self.read(viewer, run, "1.2")["chunks"] == []
        write(run, " and a half\n", stream="stderr", first=3)
        (chunk,) = self.read(viewer, run, "1.2")["chunks"]
        assert (chunk["stream"], chunk["text"]) == ("stderr", " and a half\n")

    def test_a_later_attempt_follows(self, viewer: Client) -> None:
        run = make_run(make_task(max_attempts=2))
        claim(run)
        run.refresh_from_db()
        write(run, "first\n")
        ledger.finish([Finish(run.pk, 1, "failed", retry_seconds=0.0)])
        claim(run)
        run.refresh_from_db()
        write(run, "second\n")
        news = self.read(viewer, run, "1.1")
        assert [chunk["text"] for chunk in news["chunks"]] == ["second\n"]
        assert news["after"] == "2.1"
        lines = viewer.get(run_url(run)).context["log"].lines
        assert [(line.attempt, line.starts_attempt) for line in lines] == [
            (1, True),
            (2, True),
        ]

    def test_it_is_over_when_the_run_is_and_all_was_read(self, viewer: Client) -> None:
        run = make_run()
        claim(run)
        run.refresh_from_db()
        running = self.read(viewer, run)
        assert not running["is_finished"]
        write(run, "last words\n")
        ledger.finish([Finish(run.pk, 1, RunStatus.SUCCEEDED)])
        news = self.read(viewer, run)
        assert not news["is_finished"]
        assert news["state"] != running["state"]
        assert self.read(viewer, run, news["after"])["is_finished"]

    @pytest.mark.parametrize(
        "after", ["", "x", "1", "-1.5", "1.1.1", "9" * 25 + ".1", "\u0661.1"]
    )
    def test_a_wrong_position_is_the_beginning(
        self, viewer: Client, after: str
    ) -> None:
        run = make_run()
        write(run, "one\n")
        assert len(self.read(viewer, run, after)["chunks"]) == 1

    def test_lines_are_joined_over_chunks_of_their_stream(self, viewer: Client) -> None:
        run = make_run()
        write(run, "one\ntw", "o\r\n")
        write(run, "bad\n\nnews", stream="stderr", first=3)
        lines = viewer.get(run_url(run)).context["log"].lines
        assert [(line.stream, line.text, line.is_open) for line in lines] == [
            ("stdout", "one", False),
            ("stdout", "two", False),
            ("stderr", "bad", False),
            ("stderr", "", False),
            ("stderr", "news", True),
        ]

    def test_of_much_output_the_page_shows_the_end(self, viewer: Client) -> None:
        run = make_run()
        write(run, *["x" * 60_000 + "\n"] * 12)
        log = viewer.get(run_url(run)).context["log"]
        assert log.is_cut
        assert log.after == "1.12"
        assert len(log.lines) == 8

    def test_the_download_has_all_as_plain_text(self, viewer: Client) -> None:
        run = make_run()
        write(run, "one\n", NASTY)
        answer = viewer.get(run_url(run, "log_text"))
        assert b"".join(answer).decode() == "one\n" + NASTY
        assert answer["Content-Type"] == "text/plain; charset=utf-8"
        assert "attachment" in answer["Content-Disposition"]
        assert answer["X-Content-Type-Options"] == "nosniff"


class TestButtons:
    def test_cancel_asks_first(self, operator: Client) -> None:
        run = make_run()
        assert "Cancel run" in operator.get(run_url(run, "cancel")).content.decode()
        run.refresh_from_db()
        assert run.status == "queued"
        operator.post(run_url(run, "cancel"))
        run.refresh_from_db()
        assert run.status == "cancelled"
        assert run.events.last().actor == "user:ada"  # type: ignore[union-attr]

    def test_a_running_run_is_shown_as_being_cancelled(self, operator: Client) -> None:
        run = make_run()
        claim(run)
        answer = operator.post(run_url(run, "cancel"), follow=True)
        assert "is being cancelled by its worker" in answer.content.decode()

    def test_a_finished_run_cannot_be_cancelled(self, operator: Client) -> None:
        run = end(make_run())
        answer = operator.post(run_url(run, "cancel"), follow=True)
        assert "terminal state" in answer.content.decode()

    def test_run_again_shows_the_new_run(self, operator: Client) -> None:
        run = end(make_run(params={"A": 1}))
        answer = operator.post(run_url(run, "rerun"))
        new = TaskRun.objects.get(rerun_of=run)
        assert answer["Location"] == run_url(new)
        assert (new.params, new.triggered_by) == ({"A": 1}, "user:ada")

    def test_a_workflow_is_run_again_from_what_failed(self, operator: Client) -> None:
        parent = make_task()
        child = make_task(parent)
        root = end(make_run(parent))
        button = "Run again from what failed"
        assert button not in operator.get(run_url(root)).content.decode()
        failed = end(child.runs.get(), "failed")
        assert button in operator.get(run_url(root)).content.decode()
        answer = operator.post(run_url(root, "rerun"), {"from": "failed"}, follow=True)
        new = TaskRun.objects.get(rerun_of=failed)
        assert f"Run {new.pk} queued: run {failed.pk} again." in answer.content.decode()

    def test_a_root_that_has_ended_is_cancelled_with_what_is_below(
        self, operator: Client
    ) -> None:
        parent = make_task()
        left, right = make_task(parent), make_task(parent)
        root = end(make_run(parent))
        claim(left.runs.get())
        assert "Cancel the workflow" in operator.get(run_url(root)).content.decode()
        answer = operator.post(run_url(root, "cancel"), follow=True).content.decode()
        assert f"Run {right.runs.get().pk} cancelled." in answer
        assert f"Run {left.runs.get().pk} is being cancelled by its worker." in answer

    def test_an_unfinished_run_is_not_run_again(self, operator: Client) -> None:
        run = make_run()
        answer = operator.post(run_url(run, "rerun"), follow=True)
        assert "has not finished" in answer.content.decode()
        assert TaskRun.objects.count() == 1
