"""The dashboard: what it shows, to whom, and where it leads."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from tasks_app import ledger
from tasks_app.admin.dashboard import CHART_HEIGHT, hour_bars
from tasks_app.stats import HourOfRuns
from tests.factories import end, make_run, make_task, make_worker

pytestmark = pytest.mark.django_db

URL = "/admin/"
HOUR = datetime(2026, 11, 24, 9, tzinfo=UTC)


def text_of(client: Client) -> str:
    answer = client.get(URL)
    assert answer.status_code == 200
    return answer.content.decode()


def test_it_shows_how_it_is_what_failed_and_what_comes(viewer: Client) -> None:
    make_worker()
    end(make_run(make_task(name="broken")), "failed")
    end(make_run(make_task(name="sound")))
    make_task(name="nightly", cron="0 3 * * *")
    ledger.alert_raise("no_worker", "queue:gpu", "nobody serves it")
    answer = viewer.get(URL)
    context = answer.context
    assert [(row.task.name, count) for row, count in context["failing"]] == [
        ("broken", 1)
    ]
    assert [task.name for task in context["upcoming"]] == ["nightly"]
    assert [alert.message for alert in context["alerts"]] == ["nobody serves it"]
    page = answer.content.decode()
    assert "1 succeeded, 1 failed" in page
    assert "50.0 %" in page


def test_an_idle_platform_has_a_dashboard_too(viewer: Client) -> None:
    page = text_of(viewer)
    assert "No run has succeeded or failed." in page
    assert "Nothing needs attention." in page
    assert "No task has a schedule." in page


def test_a_bar_leads_to_the_runs_of_its_hour(viewer: Client) -> None:
    run = end(make_run())
    other = make_run()
    bars = viewer.get(URL).context["bars"]
    assert run.completed_at
    hour = run.completed_at.replace(minute=0, second=0, microsecond=0)
    (bar,) = [bar for bar in bars if bar.hour.hour == hour]
    shown = viewer.get(bar.address).context["runs"]
    assert [each.pk for each in shown] == [run.pk]
    assert other.pk not in [each.pk for each in shown]


def test_the_chart_is_drawn_within_its_bounds(viewer: Client) -> None:
    end(make_run(), "failed")
    page = text_of(viewer)
    svg = page[page.index('<svg class="gn-hours"') :]
    chart = ElementTree.fromstring(svg[: svg.index("</svg>") + 6])
    assert len(chart.findall("a")) == 24
    for bar in chart.iter("rect"):
        assert float(bar.attrib["y"]) >= 0
        assert float(bar.attrib["y"]) + float(bar.attrib["height"]) <= CHART_HEIGHT


def test_a_single_failure_is_seen_among_thousands() -> None:
    hours = [
        HourOfRuns(HOUR, {"succeeded": 100_000, "failed": 1, "skipped": 1}),
        HourOfRuns(HOUR + timedelta(hours=1), {}),
    ]
    full, empty = hour_bars(hours)
    assert [part.status for part in full.parts] == ["succeeded", "skipped", "failed"]
    assert min(part.height for part in full.parts) >= 3
    assert all(part.y >= 0 for part in full.parts)
    assert empty.parts == []


def test_who_may_not_read_something_does_not_see_it(stranger: Client) -> None:
    end(make_run(make_task(name="secret", cron="0 3 * * *")), "failed")
    page = text_of(stranger)
    assert "secret" not in page
    assert "Workers online" not in page
    assert "gn-hours" not in page


def test_its_statements_do_not_grow(
    viewer: Client, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    def load() -> None:
        with django_assert_num_queries(19):
            viewer.get(URL)

    for _ in range(2):
        for _task in range(3):
            end(make_run(make_task(cron="0 3 * * *")), "failed")
        load()
