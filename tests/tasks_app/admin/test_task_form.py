"""The form of a task: what it makes, and where it shows what is wrong."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.auth.models import User
from django.http import QueryDict
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from tasks_app.admin.policy_form import LIMITS, WHERE
from tasks_app.admin.task_form import TaskEditor
from tasks_app.ledger import database_now
from tasks_app.models import Calendar, Project, Task
from tasks_app.models.task import DEFINITION_FIELDS
from tasks_app.services.tasks import task_update
from tests.factories import make_task
from tests.tasks_app.admin.pages import TASKS, list_url, task_fields, task_url

pytestmark = pytest.mark.django_db


@pytest.fixture
def project() -> Project:
    return Project.objects.get(name="default")


def send(client: Client, project: Project, **fields: Any) -> dict[str, list[str]]:
    """Send the form of a new task; the errors by field, none if it was saved."""
    form = task_fields(project=project.pk, **fields)
    answer = client.post(list_url(TASKS, "add"), form)
    if answer.status_code == 302:
        return {}
    assert answer.status_code == 200
    errors = {name: list(text) for name, text in answer.context["form"].errors.items()}
    for index, row in enumerate(answer.context["parents"].forms):
        for name, text in row.errors.items():
            errors[f"parents-{index}-{name}"] = list(text)
    return errors


class TestCreate:
    def test_a_task_has_a_version_a_cursor_and_its_schedule(
        self, operator: Client, project: Project
    ) -> None:
        assert send(operator, project, payload='{"env": {"A": "b"}}') == {}
        task = Task.objects.get(name="nightly")
        version = task.versions.get()
        assert (version.number, version.created_by) == (
            1,
            User.objects.get(username="ada"),
        )
        assert task.next_fire_at
        assert task.schedule
        assert task.schedule.crontab.hour == "3"
        assert (task.timezone, task.payload) == ("Europe/Berlin", {"env": {"A": "b"}})

    def test_without_a_schedule(self, operator: Client, project: Project) -> None:
        assert send(operator, project, kind="none", cron="") == {}
        task = Task.objects.get(name="nightly")
        assert (task.schedule, task.next_fire_at) == (None, None)

    def test_an_interval(self, operator: Client, project: Project) -> None:
        assert send(operator, project, kind="every", every="90", unit="60") == {}
        task = Task.objects.get(name="nightly")
        assert task.schedule
        assert task.schedule.interval.every == 5400

    def test_once_at_a_wall_clock_time_of_its_zone(
        self, operator: Client, project: Project
    ) -> None:
        fields = {"kind": "once", "at": "2040-07-01T12:00", "timezone": "Asia/Shanghai"}
        assert send(operator, project, **fields) == {}
        task = Task.objects.get(name="nightly")
        assert task.next_fire_at == datetime(2040, 7, 1, 4, tzinfo=UTC)

    def test_after_other_tasks(self, operator: Client, project: Project) -> None:
        other = Project.objects.create(name="etl")
        make_task(name="extract")
        make_task(name="load", project=other)
        rows = {
            "parents-0-task": "extract",
            "parents-1-task": "etl/load",
            "trigger_rule": "all_done",
        }
        assert send(operator, project, **rows) == {}
        task = Task.objects.get(name="nightly")
        edges = task.parent_edges.order_by("parent__name")
        assert [edge.parent.name for edge in edges] == ["extract", "load"]
        assert task.trigger_rule == "all_done"

    def test_what_is_not_filled_in_is_the_default(
        self, operator: Client, project: Project
    ) -> None:
        fields = {**form_of(None), "name": "nightly", "command": "true"}
        del fields["project"]
        assert send(operator, project, **fields) == {}
        task, blank = Task.objects.get(name="nightly"), Task(command="true")
        own = {"executor": "shell"}
        assert {name: getattr(task, name) for name in DEFINITION_FIELDS} == {
            name: getattr(blank, name) for name in DEFINITION_FIELDS
        } | own

    def test_each_policy_reaches_the_task(
        self, operator: Client, project: Project
    ) -> None:
        calendar = Calendar.objects.create(name="nights")
        assert send(operator, project, **POLICIES, calendars=[calendar.pk]) == {}
        task = Task.objects.get(name="nightly")
        found = {name: str(getattr(task, name)) for name in POLICIES.keys() - {RATE}}
        assert found == {name: POLICIES[name] for name in found}
        assert (task.rate_limit_runs, task.rate_limit_seconds) == (100, 900)
        assert list(task.calendars.all()) == [calendar]


RATE = "rate_limit"
POLICIES = {
    "overlap": "queue",
    "max_concurrency": "3",
    "max_queued": "50",
    RATE: "100/15m",
    "pause_after_failures": "4",
    "retention_days": "30",
    "queue": "gpu",
    "priority": "8",
    "placement": "least_loaded",
    "match": "gpu and not spot",
    "jitter_seconds": "120",
}

WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"cron": "61 * * * *"}, "cron", "minute"),
    ({"cron": "61 * * * *", "name": ""}, "name", "required"),
    ({"cron": ""}, "cron", "required"),
    ({"kind": "every"}, "every", "required"),
    ({"kind": "every", "every": "999999", "unit": "86400"}, "every", "366 days"),
    ({"kind": "once"}, "at", "required"),
    ({"kind": "once", "at": "2040-03-25T02:30"}, "at", "does not exist"),
    ({"kind": "once", "at": "soon"}, "at", "valid date"),
    ({"kind": "often"}, "kind", "valid choice"),
    ({"timezone": "Europe/Berln"}, "timezone", "Europe/Berlin"),
    ({"timezone": "A" * 5000}, "timezone", "at most"),
    ({"start_at": "2040-01-02T00:00", "end_at": "2040-01-01T00:00"}, "end_at", "after"),
    ({"payload": "{"}, "payload", "line 1, column 2"),
    ({"payload": "[]"}, "payload", "JSON object"),
    ({"payload": "[" * 100_000}, "payload", "too deep"),
    ({"payload": '{"nonsense": 1}'}, "payload", "nonsense: is not a known field"),
    ({"payload": '{"env": {"A": "\\u0000"}}'}, "payload", "env/A"),
    ({"executor": "telepathy"}, "executor", "valid choice"),
    ({"command": ""}, "payload", "either command"),
    ({"max_attempts": "3"}, "max_attempts", "at_least_once"),
    ({"max_attempts": "99"}, "max_attempts", "20"),
    ({"retry_initial_seconds": "99999999"}, "retry_initial_seconds", "86400"),
    ({"timeout_seconds": "0"}, "timeout_seconds", "1"),
    ({"timeout_seconds": "9" * 30}, "timeout_seconds", "less than or equal"),
    ({"queue": "q" * 101}, "queue", "100"),
    ({"misfire": "maybe"}, "misfire", "valid choice"),
    ({"name": "taken"}, "name", "of this name"),
    ({"name": "a/b"}, "name", "no /"),
    ({"name": "42"}, "name", "letter"),
    ({"name": "a\0b"}, "name", "Null"),
    ({"parents-1-task": "nobody"}, "parents-1-task", "no such task"),
    ({"rate_limit": "often"}, "rate_limit", "such as 10/m"),
    ({"rate_limit": "10/31d"}, "rate_limit", "86400"),
    ({"rate_limit": "10/fortnight"}, "rate_limit", "s, m, h or d"),
    ({"max_concurrency": "2"}, "max_concurrency", "overlap allow"),
    ({"max_concurrency": "0"}, "max_concurrency", "1"),
    ({"max_queued": "0"}, "max_queued", "1"),
    ({"pause_after_failures": "99999999"}, "pause_after_failures", "less than or"),
    ({"retention_days": "99999999"}, "retention_days", "less than or"),
    ({"priority": "10"}, "priority", "9"),
    ({"placement": "worker"}, "worker_name", "name of the worker"),
    ({"worker_name": "alpha"}, "worker_name", "leave worker_name empty"),
    ({"match": "gpu and"}, "match", ""),
    ({"jitter_seconds": "99999999"}, "jitter_seconds", "86400"),
    ({"calendars": ["77"]}, "calendars", "77"),
    ({"trigger_rule": "maybe"}, "trigger_rule", "valid choice"),
]


@pytest.mark.parametrize(("fields", "field", "message"), WRONG)
def test_an_error_is_shown_on_its_field(
    operator: Client, project: Project, fields: dict[str, Any], field: str, message: str
) -> None:
    make_task(name="taken")
    errors = send(operator, project, **fields)
    assert field in errors
    assert message in " ".join(errors[field]), errors
    assert not Task.objects.filter(name="nightly").exists()


class TestEdit:
    def test_the_form_shows_the_task_and_changes_nothing_by_itself(
        self, operator: Client
    ) -> None:
        parent = make_task(name="extract", project=Project.objects.create(name="etl"))
        task = make_task(
            parent,
            interval_seconds=7200,
            # An hour from any fire: one that came due meanwhile would move the cursor.
            start_at=database_now().replace(microsecond=123456) - timedelta(hours=25),
            timezone="Asia/Shanghai",
            payload={"env": {"A": "b"}},
            start_deadline_seconds=60,
            overlap="skip",
            rate_limit_runs=10,
            rate_limit_seconds=90,
            jitter_seconds=5,
            match="gpu",
        )
        task.calendars.add(Calendar.objects.create(name="nights"))
        before = task.next_fire_at
        assert resend(operator, task) == 302
        task.refresh_from_db()
        assert (task.version, task.next_fire_at) == (1, before)
        assert task.parent_edges.get().parent == parent
        assert task.calendars.get().name == "nights"

    @pytest.mark.parametrize(
        "schedule",
        [
            {"cron": "0 3 * * 1-5", "end_at": datetime(2050, 1, 1, tzinfo=UTC)},
            {"at": datetime(2050, 1, 1, tzinfo=UTC)},
            {},
        ],
    )
    def test_each_kind_of_schedule_comes_back(
        self, operator: Client, schedule: dict[str, Any]
    ) -> None:
        task = make_task(**schedule, timezone="America/New_York")
        assert resend(operator, task) == 302
        task.refresh_from_db()
        assert task.version == 1

    def test_a_changed_definition_is_a_new_version(self, operator: Client) -> None:
        task = make_task(cron="0 3 * * *")
        assert resend(operator, task, command="echo new", cron="0 4 * * *") == 302
        task.refresh_from_db()
        assert (task.version, task.command) == (2, "echo new")
        assert task.next_fire_at
        assert task.next_fire_at.hour == 4

    def test_a_task_changed_meanwhile_is_not_overwritten(
        self, operator: Client
    ) -> None:
        task = make_task()
        form = form_of(task)
        task_update(task_id=task.pk, values={"command": "echo theirs"})
        answer = operator.post(
            task_url(task, "change"), {**form, "command": "echo mine"}
        )
        assert "has been changed since" in answer.content.decode()
        task.refresh_from_db()
        assert task.command == "echo theirs"

    def test_a_cycle_is_told_on_its_row(self, operator: Client) -> None:
        first = make_task(name="first")
        second = make_task(first, name="second")
        form = {**form_of(first), "parents-1-task": "second"}
        answer = operator.post(task_url(first, "change"), form)
        assert "cycle" in str(answer.context["parents"].forms[1].errors)
        assert not first.parent_edges.exists()
        assert second.parent_edges.exists()

    def test_an_emptied_row_takes_a_dependency_away(self, operator: Client) -> None:
        task = make_task(make_task(name="extract"))
        assert resend(operator, task, **{"parents-0-task": ""}) == 302
        assert not task.parent_edges.exists()


class TestSections:
    """What few tasks need is folded away, unless it says something."""

    def open_sections(self, client: Client, url: str, **form: Any) -> set[str]:
        answer = client.post(url, form) if form else client.get(url)
        assert answer.status_code == 200
        found = {
            name
            for name in ("limits", "where", "spread")
            if answer.context[name].is_open
        }
        assert answer.content.decode().count("<details") == 3
        assert answer.content.decode().count(" open>") == len(found)
        return found

    def test_they_are_closed_for_a_new_task(self, operator: Client) -> None:
        assert self.open_sections(operator, list_url(TASKS, "add")) == set()

    @pytest.mark.parametrize(
        ("section", "values"),
        [
            ("limits", {"overlap": "skip"}),
            ("limits", {"rate_limit_runs": 10}),
            ("limits", {"pause_after_failures": 3}),
            ("where", {"queue": "gpu"}),
            ("where", {"priority": 0}),
            ("spread", {"jitter_seconds": 60}),
        ],
    )
    def test_one_with_another_value_than_the_default_is_open(
        self, operator: Client, section: str, values: dict[str, Any]
    ) -> None:
        url = task_url(make_task(**values), "change")
        assert self.open_sections(operator, url) == {section}

    def test_a_calendar_opens_its_section(self, operator: Client) -> None:
        task = make_task()
        task.calendars.add(Calendar.objects.create(name="nights"))
        assert self.open_sections(operator, task_url(task, "change")) == {"spread"}

    def test_one_with_an_error_is_open(self, project: Project) -> None:
        data = QueryDict(urlencode(task_fields(project=project.pk)))
        form = TaskEditor(None, data).form
        assert form.is_valid()
        assert not form.section(WHERE).is_open
        form.add_error("queue", "nobody serves it")
        assert form.section(WHERE).is_open
        assert not form.section(LIMITS).is_open

    def test_what_was_typed_keeps_it_open(
        self, operator: Client, project: Project
    ) -> None:
        form = task_fields(project=project.pk, priority="")
        url = list_url(TASKS, "add")
        assert self.open_sections(operator, url, **form) == {"where"}


class TestPreview:
    def ask(self, client: Client, **fields: str) -> str:
        answer = client.get(list_url(TASKS, "preview"), fields)
        assert answer.status_code == 200
        return answer.content.decode()

    def test_it_tells_the_fires_in_the_zone_and_in_utc(self, viewer: Client) -> None:
        text = self.ask(viewer, kind="cron", cron="0 3 * * *", timezone="Asia/Shanghai")
        assert "At 03:00 every day" in text
        assert text.count("03:00</time>") == 10
        assert text.count("19:00</time>") == 10
        assert "in " in text

    def test_it_warns(self, viewer: Client) -> None:
        text = self.ask(viewer, kind="cron", cron="0 3 31 * *", timezone="UTC")
        assert "gn-warning" in text

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"cron": "0 25 * * *", "timezone": "UTC"}, "Cron expression:"),
            ({"cron": "0 3 * * *", "timezone": "Mars"}, "Time zone:"),
        ],
    )
    def test_it_names_what_is_wrong(
        self, viewer: Client, fields: dict[str, str], message: str
    ) -> None:
        assert message in self.ask(viewer, kind="cron", **fields)

    @pytest.mark.parametrize("fields", [{}, {"kind": "none"}, {"kind": "cron"}])
    def test_it_waits_for_what_is_still_to_be_typed(
        self, viewer: Client, fields: dict[str, str]
    ) -> None:
        assert "gn-error" not in self.ask(viewer, **fields)

    def test_its_texts_are_inert(self, viewer: Client) -> None:
        nasty = "<img src=x onerror=alert(1)>"
        for fields in ({"cron": nasty}, {"cron": "0 3 * * *", "timezone": nasty}):
            assert "<img" not in self.ask(viewer, kind="cron", **fields)

    def test_it_reads_little(
        self, viewer: Client, django_assert_num_queries: DjangoAssertNumQueries
    ) -> None:
        # session, user, two of permissions; the clock of the database
        with django_assert_num_queries(5):
            self.ask(viewer, kind="cron", cron="0 3 * * *", timezone="UTC")


def form_of(task: Task | None) -> dict[str, Any]:
    """What a browser would send back for a task's form, or for that of a new one."""
    editor = TaskEditor(Task.objects.get(pk=task.pk) if task else None)
    bound = [editor.form, editor.parents.management_form, *editor.parents.forms]
    fields = {}
    for form in bound:
        for field in form:
            value = field.value()
            shown = field.field.widget.format_value(value)
            if field.name != "calendars":
                shown = shown[0] if isinstance(shown, list) and shown else shown
                shown = "" if shown in (None, []) else shown
            fields[field.html_name] = shown
    return fields


def resend(client: Client, task: Task, **changes: Any) -> int:
    answer = client.post(task_url(task, "change"), {**form_of(task), **changes})
    return answer.status_code
