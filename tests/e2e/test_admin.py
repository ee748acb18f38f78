"""The console in a real browser: create a task, run it, watch it, cancel it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.test import Client
from playwright.sync_api import Browser, expect

from tasks_app import ledger
from tasks_app.ledger import Finish, Lease, LogChunk
from tasks_app.models import Calendar, Task, TaskRun
from tasks_app.services.tasks import task_pause
from tests.e2e.browser import Visit, chromium
from tests.factories import (
    backdate,
    claim,
    end,
    make_run,
    make_task,
    make_worker,
)

# Playwright's loop runs in this thread, and the ORM is used between its steps.
os.environ.setdefault("DJANGO_ALLOW_ASYNC_UNSAFE", "true")

PASSWORD = "not-a-secret"

pytestmark = pytest.mark.filterwarnings(
    # The live server's threads end with the browser's open connections.
    "ignore::pytest.PytestUnhandledThreadExceptionWarning",
    "ignore:unclosed:ResourceWarning",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture
def visit(
    request: pytest.FixtureRequest, browser: Browser, committed: None, settings: Any
) -> Iterator[Visit]:
    """A signed-in administrator. Whatever the test does, no request may leave the
    origin, and no script may fail."""
    cache.clear()
    server = request.getfixturevalue("live_server")
    client = Client()
    client.force_login(User.objects.create_superuser("ada", password=PASSWORD))
    theme: Any = getattr(request, "param", "light")
    context = browser.new_context(
        viewport={"width": 1440, "height": 900}, color_scheme=theme
    )
    context.set_default_timeout(10_000)
    session = client.cookies["sessionid"].value
    context.add_cookies([{"name": "sessionid", "value": session, "url": server.url}])
    visit = Visit(context.new_page(), server.url)
    yield visit
    context.close()
    assert visit.outside == []
    assert visit.errors == []


def say(run: TaskRun, seq: int, text: str, stream: str = "stdout") -> None:
    ledger.append_logs([LogChunk(run.pk, 1, seq, stream, text)])


def test_create_run_watch_and_cancel(visit: Visit) -> None:
    page = visit.page
    page.context.clear_cookies()
    visit.sign_in("ada", PASSWORD)
    create_with_preview(visit)
    expect(page.locator("h1")).to_contain_text("nightly")
    expect(page.locator("#live-next tbody tr")).to_have_count(10)

    page.get_by_role("button", name="Run now").first.click()
    status = page.locator("#live-status")
    expect(status).to_contain_text("Queued")
    run = TaskRun.objects.get()
    claim(run)
    expect(status).to_contain_text("Running")
    watch_output(visit, run)

    cancel_in_dialog(visit, f"Cancel run {run.pk} of “nightly”?")
    expect(status).to_contain_text("cancelling")
    assert ledger.finish([Finish(run.pk, 1, "cancelled")]) == {Lease(run.pk, 1)}
    expect(status).to_contain_text("Cancelled")
    expect(page.get_by_role("button", name="Run again")).to_be_visible()
    assert page.title().startswith("✗")


def create_with_preview(visit: Visit) -> None:
    page = visit.go("/admin/tasks_app/task/add/")
    page.fill("#id_name", "nightly")
    page.fill("#id_command", "sleep 60")
    page.get_by_label("Cron", exact=True).check()
    expect(page.locator("#id_every")).to_be_hidden()
    page.fill("#id_cron", "0 25 * * *")
    preview = page.locator("[data-preview]")
    expect(preview).to_contain_text("Cron expression:")
    page.fill("#id_cron", "0 3 * * *")
    page.fill("#id_timezone", "Asia/Shanghai")
    expect(preview).to_contain_text("At 03:00 every day")
    expect(preview.locator("tbody tr")).to_have_count(10)
    page.get_by_role("button", name="Save").click()


def watch_output(visit: Visit, run: TaskRun) -> None:
    page = visit.page
    say(run, 1, "first li")
    say(run, 2, "ne\n<b>second</b> line\n")
    say(run, 3, "oh dear\n", "stderr")
    lines = page.locator("[data-lines] .gn-line span")
    expect(lines).to_have_text(["first line", "<b>second</b> line", "oh dear"])
    page.get_by_label("stderr only").check()
    expect(page.locator(".gn-line:visible")).to_have_count(1)


def cancel_in_dialog(visit: Visit, question: str) -> None:
    page = visit.page
    page.get_by_role("link", name="Cancel").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text(question)
    dialog.get_by_text("No, go back").click()
    expect(dialog).to_have_count(0)
    page.get_by_role("link", name="Cancel").click()
    dialog.get_by_role("button", name="Cancel the run").click()


def test_the_log_stops_following_when_one_scrolls_up(visit: Visit) -> None:
    run = make_run(make_task())
    claim(run)
    say(run, 1, "".join(f"line {number}\n" for number in range(200)))
    page = visit.go(f"/admin/tasks_app/taskrun/{run.pk}/")
    log, follow = page.locator("[data-lines]"), page.get_by_label("Follow")
    expect(page.get_by_text("line 199", exact=True)).to_be_in_viewport()
    log.evaluate("element => { element.scrollTop = 0 }")
    expect(follow).not_to_be_checked()
    say(run, 2, "the news\n")
    news = page.get_by_text("the news", exact=True)
    expect(news).to_be_attached()
    expect(news).not_to_be_in_viewport()
    follow.check()
    expect(news).to_be_in_viewport()


def test_resume_asks_first_with_the_numbers(visit: Visit) -> None:
    task = make_task(name="hourly", interval_seconds=3600)
    task_pause(task_id=task.pk)
    backdate(task, 36 * 3600 + 60)
    page = visit.go(f"/admin/tasks_app/task/{task.pk}/")
    page.get_by_role("button", name="Resume").click()
    expect(page.locator("[data-confirmation]")).to_contain_text(
        "36 fires were missed during the pause: 1 will run, 35 will be skipped."
    )
    page.get_by_role("button", name="Resume").click()
    expect(page.locator("#live-status")).to_contain_text("Active")
    expect(page.locator("#content, body").first).to_contain_text("35 will be skipped")


def test_limits_are_folded_away_until_they_say_something(visit: Visit) -> None:
    page = visit.go("/admin/tasks_app/task/add/")
    rate = page.get_by_label("Rate limit")
    expect(rate).to_be_hidden()
    page.get_by_text("Limits", exact=False).first.click()
    rate.fill("often")
    page.fill("#id_name", "nightly")
    page.fill("#id_command", "true")
    page.get_by_role("button", name="Save").click()
    expect(rate).to_be_visible()
    expect(page.locator("#id_rate_limit_error")).to_contain_text("such as 10/m")
    rate.fill("10/m")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".gn-facts")).to_contain_text("at most 10/m start")


def test_bulk_pause_names_the_count(visit: Visit) -> None:
    for name in ("one", "two", "three"):
        make_task(name=name)
    page = visit.go("/admin/tasks_app/task/")
    page.get_by_label("Select one", exact=True).check()
    page.get_by_label("Select two", exact=True).check()
    page.get_by_role("button", name="Pause selected").click()
    expect(page.locator("#content h2")).to_have_text("Pause 2 tasks?")
    page.get_by_role("button", name="Yes").click()
    expect(page.locator("tbody .gn-is-paused")).to_have_count(2)
    page.get_by_title("Resume one").click()
    expect(page.locator("tbody .gn-is-paused")).to_have_count(1)


SPAN = "?start=2026-01-01T00:00&end=2026-01-02T00:00"


def limited_task() -> Task:
    """A task that has paused itself, with every policy that is shown in words."""
    task = make_task(
        name="limited",
        cron="0 * * * *",
        overlap="skip",
        rate_limit_runs=10,
        pause_after_failures=1,
        jitter_seconds=90,
        priority=9,
    )
    windows = [
        {"cron": "0 22 * * 1-5", "duration_seconds": 8 * 3600},
        {"from": "2040-12-24T18:00", "until": "2040-12-27T00:00"},
    ]
    task.calendars.add(Calendar.objects.create(name="nights", windows=windows))
    end(make_run(task), "failed", exit_code=1)
    make_run(make_task(queue="gpu"))
    return task


@pytest.mark.parametrize("visit", ["light", "dark"], indirect=True)
def test_every_page_stands_in_both_themes(
    visit: Visit, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    theme = request.node.callspec.params["visit"]
    task = make_task(name="<img src=x onerror=alert(1)>", cron="0 3 * * *")
    run = end(make_run(task), "failed", exit_code=137, error="it broke")
    worker = make_worker()
    limited = limited_task()
    nights = limited.calendars.get()
    backfill = f"/admin/tasks_app/task/{limited.pk}/backfill/{SPAN}"
    pages = {
        "policies": (f"/admin/tasks_app/task/{limited.pk}/", "It paused itself"),
        "policy_form": (f"/admin/tasks_app/task/{limited.pk}/change/", "Rate limit"),
        "backfill": (backfill, "runs would be created"),
        "calendars": ("/admin/tasks_app/calendar/", "nights"),
        "calendar": (f"/admin/tasks_app/calendar/{nights.pk}/", "for 8h 00m"),
        "calendar_form": (
            f"/admin/tasks_app/calendar/{nights.pk}/change/",
            "or once from",
        ),
        "alerts": ("/admin/tasks_app/alert/", "failures in a row"),
        "queues": ("/admin/tasks_app/queue/", "gpu"),
        "queue": ("/admin/tasks_app/queue/limit/?queue=gpu", "Limit of queue"),
        "tasks": ("/admin/tasks_app/task/", "onerror=alert"),
        "task": (f"/admin/tasks_app/task/{task.pk}/", "At 03:00 every day"),
        "form": (f"/admin/tasks_app/task/{task.pk}/change/", "Executor"),
        "runs": ("/admin/tasks_app/taskrun/", "it broke"),
        "run": (f"/admin/tasks_app/taskrun/{run.pk}/", "SIGKILL"),
        "workers": ("/admin/workers_app/workerinfo/", worker.name),
        "worker": (f"/admin/workers_app/workerinfo/{worker.pk}/", "Python"),
    }
    for name, (path, text) in pages.items():
        page = visit.go(path)
        expect(page.locator("#content")).to_contain_text(text)
        is_dark = page.evaluate("document.documentElement.classList.contains('dark')")
        assert is_dark == (theme == "dark")
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= 1440, f"{name} is wider than the window"
        visit.screenshot(tmp_path, f"{name}_{theme}")
        page.set_viewport_size({"width": 320, "height": 800})
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= 320, f"{name} is wider than a small window"
        page.set_viewport_size({"width": 1440, "height": 900})
