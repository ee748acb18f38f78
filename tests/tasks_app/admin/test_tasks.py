"""Buttons and lists of tasks."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

import pytest
from django.db.models import TextChoices
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from tasks_app import ledger
from tasks_app.admin import tasks
from tasks_app.choices import Overlap, Placement, TriggerRule
from tasks_app.errors import TaskDeleted
from tasks_app.ledger import Finish
from tasks_app.models import Calendar, Project, Task, TaskRun
from tasks_app.services.tasks import task_pause
from tests.factories import backdate, claim, end, make_run, make_task, make_worker
from tests.tasks_app.admin.pages import TASKS, calendar_url, list_url, task_url

pytestmark = pytest.mark.django_db

NASTY = "<img src=x onerror=alert(1)>"


def text_of(client: Client, url: str) -> str:
    answer = client.get(url)
    assert answer.status_code == 200
    return answer.content.decode()


class TestButtons:
    def test_run_now_queues_a_run_and_shows_it(self, operator: Client) -> None:
        task = make_task()
        answer = operator.post(
            task_url(task, "run"), {"params": '{"DAY": "mon"}', "reason": "a test"}
        )
        run = TaskRun.objects.get(task=task)
        assert answer["Location"] == f"/admin/tasks_app/taskrun/{run.pk}/"
        assert (run.trigger, run.triggered_by) == ("admin", "user:ada")
        assert (run.params, run.trigger_reason) == ({"DAY": "mon"}, "a test")

    @pytest.mark.parametrize("params", ["{", "[1]", '{"1x": 1}', "[" * 100_000])
    def test_wrong_parameters_are_told_and_nothing_runs(
        self, operator: Client, params: str
    ) -> None:
        task = make_task()
        answer = operator.post(task_url(task, "run"), {"params": params}, follow=True)
        assert "params" in answer.content.decode()
        assert not task.runs.exists()

    def test_a_task_deleted_meanwhile_is_told(
        self, operator: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def task_pause(task_id: int) -> Task:
            raise TaskDeleted(f"task {task_id} has been deleted")

        monkeypatch.setattr(tasks, "task_pause", task_pause)
        answer = operator.post(task_url(make_task(), "pause"), follow=True)
        assert "has been deleted" in answer.content.decode()

    def test_pause_and_resume(self, operator: Client) -> None:
        task = make_task(cron="0 3 * * *")
        operator.post(task_url(task, "pause"))
        task.refresh_from_db()
        assert task.status == "paused"
        operator.post(task_url(task, "resume"))
        task.refresh_from_db()
        assert task.status == "active"

    def test_resume_asks_first_where_fires_were_missed(self, operator: Client) -> None:
        task = paused_for_hours(37)
        back = list_url(TASKS) + "?q=a"
        asked = operator.post(task_url(task, "resume"), {"next": back})
        missed = (
            "37 fires were missed during the pause: 1 will run, 36 will be skipped."
        )
        assert missed in asked.content.decode()
        task.refresh_from_db()
        assert (task.status, task.runs.count()) == ("paused", 0)
        form = dict(asked.context["hidden"])
        answer = operator.post(task_url(task, "resume"), form, follow=True)
        assert answer.redirect_chain[0][0] == back
        assert missed in answer.content.decode()
        task.refresh_from_db()
        assert task.status == "active"
        assert task.runs.filter(status="queued").count() == 1

    def test_resume_does_not_ask_where_nothing_was_missed(
        self, operator: Client
    ) -> None:
        task = make_task(cron="0 3 * * *")
        task_pause(task_id=task.pk)
        operator.post(task_url(task, "resume"))
        task.refresh_from_db()
        assert task.status == "active"

    def test_it_goes_back_to_where_the_button_was_and_nowhere_else(
        self, operator: Client
    ) -> None:
        task = make_task()
        back = list_url(TASKS) + "?q=a"
        answer = operator.post(task_url(task, "pause"), {"next": back})
        assert answer["Location"] == back
        answer = operator.post(
            task_url(task, "pause"), {"next": "https://evil.example"}
        )
        assert answer["Location"] == task_url(task)

    def test_delete_asks_first(self, operator: Client) -> None:
        task = make_task(name="old")
        assert "Delete task “old”?" in text_of(operator, task_url(task, "delete"))
        task.refresh_from_db()
        assert task.status == "active"
        operator.post(task_url(task, "delete"))
        task.refresh_from_db()
        assert task.status == "deleted"


class TestBulk:
    def test_it_asks_naming_the_count_and_then_acts(self, operator: Client) -> None:
        tasks = [make_task() for _ in range(3)]
        form = {"bulk": "pause", "task": [task.pk for task in tasks[:2]]}
        asked = operator.post(list_url(TASKS, "bulk"), form).content.decode()
        assert "Pause 2 tasks?" in asked
        assert not Task.objects.filter(status="paused").exists()
        operator.post(list_url(TASKS, "bulk"), {**form, "confirmed": "1"})
        assert Task.objects.filter(status="paused").count() == 2

    def test_run_and_resume(self, operator: Client) -> None:
        task = make_task()
        form = {"task": [task.pk], "confirmed": "1"}
        operator.post(list_url(TASKS, "bulk"), {**form, "bulk": "run"})
        assert task.runs.get().triggered_by == "user:ada"
        operator.post(task_url(task, "pause"))
        operator.post(list_url(TASKS, "bulk"), {**form, "bulk": "resume"})
        task.refresh_from_db()
        assert task.status == "active"

    def test_one_that_cannot_run_is_told_and_the_others_run(
        self, operator: Client
    ) -> None:
        full, free = make_task(name="full", max_queued=1), make_task()
        make_run(full)
        form = {"bulk": "run", "task": [full.pk, free.pk], "confirmed": "1"}
        answer = operator.post(list_url(TASKS, "bulk"), form, follow=True)
        text = answer.content.decode()
        assert "full: " in text
        assert "1 run queued." in text
        assert free.runs.filter(status="queued").count() == 1

    def test_nothing_chosen_is_said(self, operator: Client) -> None:
        answer = operator.post(list_url(TASKS, "bulk"), {"bulk": "run"}, follow=True)
        assert "No task is selected." in answer.content.decode()

    def test_an_unknown_action_is_refused(self, operator: Client) -> None:
        answer = operator.post(list_url(TASKS, "bulk"), {"bulk": "explode"})
        assert answer.status_code == 400


class TestList:
    def test_a_line_tells_the_schedule_and_the_last_run(self, viewer: Client) -> None:
        task = make_task(name="nightly", cron="0 3 * * *", timezone="Asia/Shanghai")
        end(make_run(task), "failed", exit_code=1)
        text = text_of(viewer, list_url(TASKS))
        for part in ("nightly", "0 3 * * *", "at 03:00 every day", "Failed", "<svg"):
            assert part in text
        assert "03:00:00 Asia/Shanghai · " in text  # the title of the next fire

    @pytest.mark.parametrize(
        ("query", "shown"),
        [
            ("q=NIGHT", {"nightly"}),
            ("status=paused", {"hourly"}),
            ("project=etl", {"loader"}),
            ("executor=http", {"pinger"}),
            ("queue=gpu", {"trainer"}),
            ("status=nonsense", set()),
            ("project=nonsense", set()),
            ("q=a&page=999", {"loader", "trainer"}),
        ],
    )
    def test_filters(self, operator: Client, query: str, shown: set[str]) -> None:
        etl = Project.objects.create(name="etl")
        make_task(name="nightly")
        paused = make_task(name="hourly")
        make_task(name="loader", project=etl)
        make_task(name="pinger", executor="http", command="https://example.org")
        make_task(name="trainer", queue="gpu")
        operator.post(task_url(paused, "pause"))
        answer = operator.get(f"{list_url(TASKS)}?{query}")
        assert {row.task.name for row in answer.context["rows"]} == shown

    def test_deleted_tasks_are_gone(self, operator: Client) -> None:
        operator.post(task_url(make_task(name="goner"), "delete"))
        answer = operator.get(list_url(TASKS))
        assert answer.context["rows"] == []

    def test_its_statements_do_not_grow_with_tasks_and_runs(
        self, viewer: Client, django_assert_num_queries: DjangoAssertNumQueries
    ) -> None:
        def load() -> None:
            # session, user, two of permissions; projects; count, tasks, numbers of
            # runs, runs; alerts
            with django_assert_num_queries(10):
                viewer.get(list_url(TASKS))

        for _ in range(2):
            for _run in range(3):
                make_run(make_task(cron="0 3 * * *"))
            load()

    def test_the_sparkline_shows_the_last_twenty_runs(self, viewer: Client) -> None:
        task = make_task()
        runs = [end(make_run(task)) for _ in range(23)]
        (row,) = viewer.get(list_url(TASKS)).context["rows"]
        assert [run.pk for run in row.runs] == [run.pk for run in runs[3:]]
        assert row.label == "20 of the last 20 runs succeeded"

    def test_the_sparkline_tells_each_run(self, viewer: Client) -> None:
        task = make_task()
        end(make_run(task), "failed")
        end(make_run(task))
        make_run(task)
        page = viewer.get(list_url(TASKS)).content.decode()
        svg = page[page.index('<svg class="gn-bars"') :]
        chart = ElementTree.fromstring(svg[: svg.index("</svg>") + 6])
        assert chart.attrib["aria-label"] == "1 of the last 3 runs succeeded"
        told = [
            (bar.attrib["class"].removeprefix("gn-fill-"), bar.findtext("title", ""))
            for bar in chart.findall("rect")
        ]
        assert told[:17] == [("none", "")] * 17
        assert [status for status, _ in told[17:]] == ["failed", "succeeded", "queued"]
        failed, succeeded, queued = (text for _, text in told[17:])
        assert failed.startswith("Failed, ")
        assert succeeded.startswith("Succeeded, ")
        assert queued == "Queued"


def paused_for_hours(hours: int) -> Task:
    """An hourly task that has been paused for so many of its fires."""
    task = make_task(interval_seconds=3600)
    task_pause(task_id=task.pk)
    return backdate(task, hours * 3600 + 60)


class TestPolicies:
    def test_those_that_are_the_default_are_not_told(self, viewer: Client) -> None:
        text = text_of(viewer, task_url(make_task(cron="0 3 * * *")))
        for label in ("Overlap", "Rate limit", "Priority", "Placement", "Calendars<"):
            assert f"<dt>{label}" not in text

    @pytest.mark.parametrize(
        ("values", "label", "told"),
        [
            ({"overlap": "skip"}, "Overlap", "1 run at a time; skips a new one"),
            (
                {"overlap": "queue", "max_concurrency": 3},
                "Overlap",
                "3 runs at a time; lets a new one wait",
            ),
            ({"max_queued": 50}, "Waiting runs", "at most 50; more are skipped"),
            (
                {"rate_limit_runs": 100, "rate_limit_seconds": 900},
                "Rate limit",
                "at most 100/15m start",
            ),
            (
                {"pause_after_failures": 3},
                "Pauses itself",
                "after 3 failed runs in a row",
            ),
            ({"retention_days": 7}, "Keeps its runs", "for 7 days"),
            ({"retention_days": 0}, "Keeps its runs", "for ever"),
            ({"priority": 8}, "Priority", "8 of 9"),
            (
                {"placement": "worker", "worker_name": "alpha"},
                "Placement",
                "on the worker alpha only",
            ),
            ({"placement": "broadcast"}, "Placement", "on each online worker"),
            ({"match": "gpu and not spot"}, "Worker tags", "gpu and not spot"),
            ({"jitter_seconds": 120}, "Jitter", "starts up to 2m 00s later"),
            (
                {"trigger_rule": "all_done"},
                "After its parents",
                "when all its parents ended",
            ),
        ],
    )
    def test_each_other_one_is_told_in_words(
        self, viewer: Client, values: dict[str, Any], label: str, told: str
    ) -> None:
        text = text_of(viewer, task_url(make_task(**values)))
        assert f"<dt>{label}</dt><dd>{told}</dd>" in text

    @pytest.mark.parametrize(
        ("field", "choices"),
        [
            ("overlap", Overlap),
            ("placement", Placement),
            ("trigger_rule", TriggerRule),
        ],
    )
    def test_each_choice_has_its_words(
        self, viewer: Client, field: str, choices: type[TextChoices]
    ) -> None:
        task = make_task()
        for choice in choices.values:
            Task.objects.filter(pk=task.pk).update(**{field: choice})
            text_of(viewer, task_url(task))

    def test_its_calendars_are_links(self, viewer: Client) -> None:
        task = make_task()
        calendar = Calendar.objects.create(name="nights")
        task.calendars.add(calendar)
        assert calendar_url(calendar) in text_of(viewer, task_url(task))

    def test_the_next_fires_tell_their_blackouts(self, viewer: Client) -> None:
        task = make_task(cron="0 * * * *")
        nights = {"cron": "0 */2 * * *", "duration_seconds": 3600}
        calendar = Calendar.objects.create(name="nights", windows=[nights])
        task.calendars.add(calendar)
        text = text_of(viewer, task_url(task))
        assert 0 < text.count("skipped: nights") <= 10
        preview = {"kind": "cron", "cron": "0 4 * * *", "timezone": "UTC"}
        query = urlencode({**preview, "calendars": calendar.pk})
        text = text_of(viewer, f"{list_url(TASKS, 'preview')}?{query}")
        assert text.count("skipped: nights") == 10

    def test_a_task_that_paused_itself_says_why(self, viewer: Client) -> None:
        task = make_task(pause_after_failures=1)
        end(make_run(task), "failed", exit_code=1)
        task.refresh_from_db()
        assert task.status == "paused"
        assert "It paused itself: " in text_of(viewer, task_url(task))


class TestPage:
    def test_it_tells_what_comes_and_what_was(self, operator: Client) -> None:
        parent = make_task(name="extract")
        task = make_task(
            parent, name="nightly", cron="0 3 * * *", timezone="Asia/Shanghai"
        )
        run = end(make_run(task))
        text = text_of(operator, task_url(task))
        for part in ("At 03:00 every day", "Asia/Shanghai", "extract", "v1", "Run now"):
            assert part in text
        assert f"/admin/tasks_app/taskrun/{run.pk}/" in text
        assert "1 of 1 succeeded" in text

    def test_it_says_why_a_fire_did_not_run(self, viewer: Client) -> None:
        task = make_task(cron="0 3 * * *", timezone="Asia/Shanghai", misfire="none")
        backdate(task, 3 * 24 * 3600)
        ledger.plan()
        skipped = task.runs.filter(status="skipped").latest("scheduled_for")
        at = skipped.scheduled_for.astimezone(ZoneInfo(task.timezone))
        asked = f"{task_url(task)}?fire={at:%Y-%m-%dT%H:%M}"
        assert f"it has run {skipped.pk}" in text_of(viewer, asked)
        assert "the misfire policy is none" in text_of(viewer, asked)

    def test_a_fire_that_cannot_be_read_is_told(self, viewer: Client) -> None:
        task = make_task(cron="0 3 * * *")
        assert "valid" in text_of(viewer, f"{task_url(task)}?fire=soon")

    def test_its_statements_do_not_grow_with_runs(
        self, viewer: Client, django_assert_num_queries: DjangoAssertNumQueries
    ) -> None:
        task = make_task(cron="0 3 * * *")
        for _ in range(2):
            for _run in range(3):
                end(make_run(task))
            # session, user, two of permissions; task, runs, both ways of
            # dependencies, versions, calendars (its own twice, and its project's);
            # the oldest run that waits; the clock of the database; alerts
            with django_assert_num_queries(15):
                viewer.get(task_url(task))


def test_names_and_texts_are_inert(operator: Client) -> None:
    task = make_task(name=NASTY, description=NASTY, command=NASTY, queue=NASTY)
    run = make_run(task, params={"A": NASTY}, reason=NASTY)
    found = claim(run, make_worker(queues=[NASTY]))
    ledger.finish([Finish(found.run_id, found.attempt, "failed", error=NASTY)])
    child = make_task(task, name="child" + NASTY)
    for url in (
        list_url(TASKS),
        task_url(task),
        task_url(child),
        task_url(task, "change"),
        task_url(task, "delete"),
        f"/admin/tasks_app/taskrun/{run.pk}/",
        "/admin/tasks_app/taskrun/",
        f"/admin/tasks_app/taskrun/?task={NASTY}",
    ):
        text = text_of(operator, url)
        assert "<img src=x" not in text, url
        assert "&lt;img src=x" in text, url
