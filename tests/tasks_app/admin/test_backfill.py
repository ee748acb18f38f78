"""The backfill page: what it would run, what it leaves out, and then the runs."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client

from tasks_app import ledger
from tasks_app.models import Calendar, Task
from tests.factories import backdate, make_task
from tests.tasks_app.admin.pages import task_url

pytestmark = pytest.mark.django_db


def hours_ago(start: int, end: int) -> dict[str, str]:
    """A span before the last full hour, on the clock of UTC."""
    now = ledger.database_now().replace(minute=0, second=0, microsecond=0)
    return {
        "start": f"{now - timedelta(hours=start):%Y-%m-%dT%H:%M}",
        "end": f"{now - timedelta(hours=end):%Y-%m-%dT%H:%M}",
    }


def hourly(**values: object) -> Task:
    return make_task(cron="0 * * * *", **values)


def text_of(client: Client, task: Task, form: dict[str, str]) -> str:
    answer = client.get(task_url(task, "backfill"), form)
    assert answer.status_code == 200
    return answer.content.decode()


def test_it_begins_with_a_form_and_no_preview(operator: Client) -> None:
    text = text_of(operator, hourly(), {})
    assert "gn-error" not in text
    assert "would be created" not in text


def test_a_preview_counts_and_changes_nothing(operator: Client) -> None:
    task = hourly()
    form = hours_ago(26, 2)
    text = text_of(operator, task, form)
    assert "24 runs would be created" in text
    assert "Create 24 runs" in text
    assert "… 14 more …" in text
    assert form["start"].replace("T", " ") in text  # the first fire
    assert not task.runs.exists()


def test_it_tells_what_is_left_out(operator: Client) -> None:
    task = hourly()
    form = hours_ago(6, 4)
    operator.post(task_url(task, "backfill"), form)
    whole = {"from": "2020-01-01T00:00Z", "until": "2020-06-01T00:00Z"}
    calendar = Calendar.objects.create(name="old", windows=[whole])
    assert "Left out: 2 that ran or will, 0 within" in text_of(
        operator, task, hours_ago(6, 2)
    )
    always = {"cron": "* * * * *", "duration_seconds": 3600}
    Calendar.objects.filter(pk=calendar.pk).update(windows=[always])
    task.calendars.add(calendar)
    text = text_of(operator, task, hours_ago(6, 2))
    assert "0 runs would be created" in text
    assert "Left out: 2 that ran or will, 2 within a blackout." in text
    text = text_of(operator, task, {**hours_ago(6, 2), "with_blackouts": "on"})
    assert "2 runs would be created" in text


def test_a_post_creates_the_runs_and_shows_them(operator: Client) -> None:
    task = hourly()
    answer = operator.post(task_url(task, "backfill"), hours_ago(6, 2))
    assert answer["Location"].endswith(f"?task={task.pk}&trigger=backfill")
    assert "4 runs queued." in operator.get(answer["Location"]).content.decode()
    runs = task.runs.filter(trigger="backfill", status="queued")
    assert set(runs.values_list("triggered_by", flat=True)) == {"user:ada"}
    assert runs.count() == 4


@pytest.mark.parametrize("order", [{}, {"is_newest_first": "on"}])
def test_what_the_preview_showed_is_what_the_button_sends(
    operator: Client, order: dict[str, str]
) -> None:
    task = hourly()
    form = hours_ago(6, 2) | order
    context = operator.get(task_url(task, "backfill"), form).context
    sent = {field.html_name: field.value() for field in context["form"]}
    operator.post(task_url(task, "backfill"), sent)
    fires = list(task.runs.order_by("due_at").values_list("scheduled_for", flat=True))
    assert fires == sorted(fires, reverse=bool(order))
    assert len(fires) == 4


def test_times_are_of_the_zone_of_the_task(operator: Client) -> None:
    task = make_task(cron="0 3 * * *", timezone="Asia/Shanghai")
    form = {"start": "2026-01-05T00:00", "end": "2026-01-06T00:00"}
    operator.post(task_url(task, "backfill"), form)
    fire = task.runs.get().scheduled_for
    assert fire.isoformat() == "2026-01-04T19:00:00+00:00"


@pytest.mark.parametrize(
    ("form", "field", "message"),
    [
        ({"start": "2026-01-02T00:00", "end": "2026-01-01T00:00"}, "end", "after from"),
        ({"start": "2026-01-01T00:00", "end": "2100-01-01T00:00"}, "end", "future"),
        ({"start": "1990-01-01T00:00", "end": "2026-01-01T00:00"}, "end", "at most"),
        ({"start": "soon", "end": "2026-01-01T00:00"}, "start", "valid date"),
        ({"start": "2026-01-01T00:00"}, "end", "required"),
    ],
)
def test_an_error_is_shown_on_its_field(
    operator: Client, form: dict[str, str], field: str, message: str
) -> None:
    task = hourly()
    for answer in (
        operator.get(task_url(task, "backfill"), form),
        operator.post(task_url(task, "backfill"), form),
    ):
        assert message in str(answer.context["form"].errors[field])
    assert not task.runs.exists()


def test_more_runs_than_may_wait_are_told(operator: Client) -> None:
    task = hourly(max_queued=2)
    answer = operator.post(task_url(task, "backfill"), hours_ago(6, 2))
    assert "2 more than may wait" in answer.content.decode()
    assert not task.runs.exists()


def test_a_task_without_a_schedule_has_none(operator: Client) -> None:
    task = make_task()
    url = task_url(task, "backfill")
    assert url not in operator.get(task_url(task)).content.decode()
    answer = operator.post(url, hours_ago(6, 2), follow=True)
    assert "no schedule" in answer.content.decode()
    other = hourly()
    text = operator.get(task_url(other)).content.decode()
    assert task_url(other, "backfill") in text


def test_a_paused_task_is_to_be_resumed_first(operator: Client) -> None:
    task = backdate(make_task(interval_seconds=3600), 5 * 3600)
    Task.objects.filter(pk=task.pk).update(status="paused")
    assert "resume it first" in text_of(operator, task, hours_ago(3, 0))
