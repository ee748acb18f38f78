"""Who may do what at the console; the table of the policy, asked at each door."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from tasks_app import ledger
from tasks_app.models import Alert, Calendar, Project, Queue, Task, TaskRun
from tests.factories import end, make_run, make_task, make_worker
from tests.tasks_app.admin.conftest import READ, sign_in
from tests.tasks_app.admin.pages import (
    ALERTS,
    CALENDARS,
    PROJECTS,
    QUEUES,
    RUNS,
    TASKS,
    WORKERS,
    alert_url,
    calendar_fields,
    calendar_url,
    list_url,
    project_url,
    queue_url,
    run_url,
    task_fields,
    task_url,
)

pytestmark = pytest.mark.django_db


def posts(task: Task, run: TaskRun, ended: TaskRun) -> dict[str, tuple[str, dict]]:  # type: ignore[type-arg]
    """Every address that changes something: its permission, itself, its form."""
    calendar = Calendar.objects.get_or_create(name="nights")[0]
    ledger.alert_raise("no_worker", "task:1", "nobody")
    alert = Alert.objects.get()
    return {
        list_url(TASKS, "add"): ("add_task", task_fields()),
        task_url(task, "change"): ("change_task", task_fields()),
        task_url(task, "pause"): ("change_task", {}),
        task_url(task, "resume"): ("change_task", {}),
        task_url(task, "delete"): ("delete_task", {}),
        task_url(task, "run"): ("trigger_task", {}),
        run_url(ended, "rerun"): ("trigger_task", {}),
        run_url(run, "cancel"): ("cancel_taskrun", {}),
        task_url(task, "backfill"): ("trigger_task", {}),
        list_url(CALENDARS, "add"): ("add_calendar", calendar_fields(name="new")),
        calendar_url(calendar, "change"): ("change_calendar", calendar_fields()),
        calendar_url(calendar, "delete"): ("delete_calendar", {}),
        queue_url("default"): ("change_queue", {"max_concurrency": "3"}),
        project_url(task.project): ("change_project", {"retention_days": "7"}),
        alert_url(alert): ("change_alert", {}),
    }


def bulk(kind: str, task: Task) -> dict[str, object]:
    return {"bulk": kind, "task": [task.pk], "confirmed": "1"}


@pytest.fixture
def task() -> Task:
    return make_task(cron="0 3 * * *")


class TestViewer:
    def test_reads_every_page(self, viewer: Client, task: Task) -> None:
        run, worker = make_run(task), make_worker()
        calendar = Calendar.objects.create(name="nights")
        for url in (
            list_url(QUEUES),
            list_url(PROJECTS),
            list_url(CALENDARS),
            calendar_url(calendar),
            list_url(ALERTS),
            list_url(TASKS),
            list_url(RUNS),
            list_url(WORKERS),
            task_url(task),
            run_url(run),
            run_url(run, "log"),
            run_url(run, "log_text"),
            reverse(WORKERS.format("change"), args=[worker.pk]),
            list_url(TASKS, "preview"),
        ):
            assert viewer.get(url).status_code == 200, url

    def test_changes_nothing(self, viewer: Client, task: Task) -> None:
        ended, run = end(make_run(task)), make_run(task)
        runs = TaskRun.objects.count()
        for url, (_permission, form) in posts(task, run, ended).items():
            assert viewer.post(url, form).status_code == 403, url
        for kind in ("run", "pause", "resume"):
            answer = viewer.post(list_url(TASKS, "bulk"), bulk(kind, task))
            assert answer.status_code == 403
        task.refresh_from_db()
        run.refresh_from_db()
        assert (task.status, run.status) == ("active", "queued")
        assert TaskRun.objects.count() == runs
        assert Calendar.objects.get().timezone == "UTC"
        assert not Queue.objects.exists()
        assert Project.objects.get().retention_days is None
        assert Alert.objects.open().exists()

    def test_is_shown_no_buttons(self, viewer: Client, task: Task) -> None:
        run = make_run(task)
        calendar = Calendar.objects.create(name="nights")
        ledger.alert_raise("no_worker", "task:1", "nobody")
        pages = [
            list_url(TASKS),
            task_url(task),
            run_url(run),
            list_url(CALENDARS),
            calendar_url(calendar),
            list_url(QUEUES),
            list_url(ALERTS),
        ]
        text = "".join(viewer.get(url).content.decode() for url in pages)
        for word in ("Run now", "Pause<", "New task", "data-dialog", "Run selected"):
            assert word not in text.replace(">Paused<", "")


@pytest.mark.parametrize(
    "permission",
    [
        "add_task",
        "change_task",
        "delete_task",
        "trigger_task",
        "cancel_taskrun",
        "add_calendar",
        "change_calendar",
        "delete_calendar",
        "change_queue",
        "change_project",
        "change_alert",
    ],
)
def test_each_permission_opens_its_own_doors_only(task: Task, permission: str) -> None:
    ended, run = end(make_run(task)), make_run(task)
    client = sign_in("one", *READ, permission)
    for url, (needed, _form) in posts(task, run, ended).items():
        # An empty form does nothing where a form is needed, and passes the door.
        is_open = client.post(url, {}).status_code != 403
        assert is_open == (needed == permission), url
        Task.objects.filter(pk=task.pk).update(status="active")


def test_a_stranger_reads_nothing(stranger: Client, task: Task) -> None:
    run = make_run(task)
    for url in (
        list_url(TASKS),
        list_url(RUNS),
        list_url(WORKERS),
        list_url(QUEUES),
        list_url(PROJECTS),
        list_url(CALENDARS),
        list_url(ALERTS),
        project_url(task.project),
        task_url(task),
        task_url(task, "backfill"),
        queue_url("default"),
        run_url(run),
        run_url(run, "log"),
        list_url(TASKS, "preview"),
    ):
        assert stranger.get(url).status_code == 403, url


def test_nobody_is_asked_to_sign_in(client: Client, task: Task) -> None:
    for url in (list_url(TASKS), run_url(make_run(task), "log")):
        answer = client.get(url)
        assert answer.status_code == 302
        assert answer["Location"].startswith("/admin/login/")


def test_state_changes_are_posts(operator: Client, task: Task) -> None:
    run = end(make_run(task))
    for url in (
        task_url(task, "run"),
        task_url(task, "pause"),
        task_url(task, "resume"),
        list_url(TASKS, "bulk"),
        run_url(run, "rerun"),
    ):
        assert operator.get(url).status_code == 405, url


def test_a_post_without_its_token_is_refused(task: Task) -> None:
    sign_in("ada", *READ, "trigger_task")
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.get(username="ada"))
    assert client.post(task_url(task, "run")).status_code == 403
    assert not task.runs.exists()


def test_runs_and_workers_cannot_be_added_changed_or_deleted(
    admin_client: Client,
) -> None:
    run, worker = make_run(), make_worker()
    base = run_url(run)
    for url in (
        list_url(RUNS) + "add/",
        base + "change/",
        base + "delete/",
        list_url(WORKERS) + "add/",
        list_url(WORKERS) + f"{worker.pk}/delete/",
    ):
        assert admin_client.post(url).status_code == 404, url
    assert admin_client.post(base).status_code == 405


@pytest.mark.parametrize(
    "model", ["periodictask", "crontabschedule", "intervalschedule", "clockedschedule"]
)
def test_the_pages_of_django_celery_beat_do_not_exist(
    admin_client: Client, model: str
) -> None:
    url = f"/admin/django_celery_beat/{model}/"
    assert admin_client.get(url).status_code == 404
    assert admin_client.post(url, {"action": "run_tasks"}).status_code == 404


def test_what_is_not_there_is_a_404(operator: Client, task: Task) -> None:
    for page in ("page", "change", "delete"):
        assert operator.get(task_url(10**9, page)).status_code == 404
        assert operator.get(task_url(10**30, page)).status_code == 404
    assert operator.post(task_url(10**9, "run")).status_code == 404
    operator.post(task_url(task, "delete"))
    assert operator.get(task_url(task)).status_code == 404
    assert operator.post(task_url(task, "pause")).status_code == 404
