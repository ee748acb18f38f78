"""`manage.py retention`: what it would remove, what it removes, what it says."""

from __future__ import annotations

import json
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import call_command
from django.db import connection

from tasks_app.ledger.dialects import fetch
from tasks_app.models import Task, TaskRun
from tests.factories import make_task
from tests.tasks_app.ledger.test_partitions import make_month
from tests.tasks_app.ledger.test_retention import fire_days_ago, old_run, today

pytestmark = pytest.mark.django_db


def retention(*argv: str) -> tuple[int, str]:
    output = StringIO()
    if connection.vendor == "postgresql":
        fetch("SET CONSTRAINTS ALL IMMEDIATE")
    try:
        call_command("retention", *argv, stdout=output)
    except SystemExit as ended:
        return int(str(ended.code)), output.getvalue()
    return 0, output.getvalue()


@pytest.fixture
def task() -> Task:
    """One that keeps a week, beside one that keeps for ever."""
    make_task(retention_days=0)
    return make_task(name="nightly [copy]", retention_days=7)


class TestSingleRuns:
    def test_a_dry_run_shows_and_removes_nothing(self, task: Task) -> None:
        old_run(task, 10)
        code, text = retention("--dry-run")
        assert code == 0
        assert f"nightly [copy] ({task.pk})" in text
        assert str(today() - timedelta(days=7)) in text
        assert TaskRun.objects.count() == 1

    def test_it_removes_and_says_how_many(self, task: Task) -> None:
        for days in (10, 9, 3):
            old_run(task, days)
        code, text = retention()
        assert code == 0
        assert "removed 2 single runs" in text
        assert TaskRun.objects.count() == 1

    def test_json_is_for_programs(self, task: Task) -> None:
        old_run(task, 10)
        document = json.loads(retention("--json", "--dry-run")[1])
        (found,) = document["tasks"]
        assert (found["task_id"], found["old_runs"], found["removed"]) == (
            task.pk,
            1,
            0,
        )
        (found,) = json.loads(retention("--json")[1])["tasks"]
        assert found["removed"] == 1

    def test_nothing_old_is_said(self, task: Task) -> None:
        old_run(task, 3)
        assert "Nothing is old enough" in retention()[1]


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no months")
class TestMonths:
    def test_a_month_is_shown_then_dropped(self) -> None:
        task = make_task(retention_days=30)
        last = today() - timedelta(days=40)
        month = make_month(last - timedelta(days=5), last)
        old_run(task, 42)
        code, text = retention("--dry-run")
        assert (code, month.name in text) == (0, True)
        assert TaskRun.objects.exists()
        code, text = retention()
        assert code == 0
        assert "Dropped 2 months" in text, "and the one before it"
        assert not TaskRun.objects.exists()

    def test_a_month_with_an_unfinished_run_stays_and_is_code_1(self) -> None:
        last = today() - timedelta(days=40)
        month = make_month(last - timedelta(days=5), last)
        run_id = fire_days_ago(make_task(retention_days=30), 42)
        code, text = retention()
        assert code == 1
        assert "unfinished" in text
        stays = json.loads(retention("--json")[1])["months"]
        assert [each["name"] for each in stays if each["stays"]] == [month.name]
        assert TaskRun.objects.filter(pk=run_id).exists()
