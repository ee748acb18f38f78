"""The dashboard: how it is, how the last day went, what to look at, what comes next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext as _

from tasks_app.admin.base import Allowed
from tasks_app.admin.task_list import TaskRow, task_rows
from tasks_app.models import Alert, Task
from tasks_app.policy import may
from tasks_app.stats import MAX_COUNTED, HourOfRuns, Stats, stats

ALERTS_SHOWN = FAILING_SHOWN = 8
UPCOMING_SHOWN = 10
BAR_WIDTH, BAR_GAP, CHART_HEIGHT = 24, 6, 120
LABELLED_HOURS = 4
LEAST_HEIGHT = 3.0
"""What is there is seen, beside however many others."""

admin.site.index_template = "gnomon/dashboard.html"


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a bar: its state, and its place in the chart."""

    status: str
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class HourBar:
    """An hour as a bar of parts, with the list of its runs behind it."""

    hour: HourOfRuns
    x: int
    parts: Sequence[Part]
    address: str
    is_labelled: bool


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """What the start page shows to this user; called by the theme."""
    user = request.user
    told = stats()
    context |= {
        "title": _("Dashboard"),
        "may": Allowed(request),
        "stats": told,
        "most": MAX_COUNTED,
        "bars": hour_bars(told.hours),
        "chart_width": len(told.hours) * (BAR_WIDTH + BAR_GAP),
        "is_busy": bool(told.running),
    }
    if may(user, "alert.read"):
        alerts = Alert.objects.open().select_related("task").order_by("-pk")
        context["alerts"] = list(alerts[:ALERTS_SHOWN])
    if may(user, "task.read"):
        context["failing"] = failing(told)
        context["upcoming"] = upcoming()
    return context


def failing(told: Stats) -> list[tuple[TaskRow, int]]:
    """The tasks with the most failures, each with how many."""
    worst = dict(list(told.failing.items())[:FAILING_SHOWN])
    tasks = (
        Task.objects.existing()
        .filter(pk__in=worst)
        .select_related(
            "project", "schedule__crontab", "schedule__interval", "schedule__clocked"
        )
    )
    rows = [(row, worst[row.task.pk]) for row in task_rows(list(tasks))]
    return sorted(rows, key=lambda row: (-row[1], row[0].task.name))


def upcoming() -> list[Task]:
    """The tasks that fire next."""
    tasks = Task.objects.filter(status="active", next_fire_at__isnull=False)
    shown = tasks.only("name", "timezone", "next_fire_at").order_by("next_fire_at")
    return list(shown[:UPCOMING_SHOWN])


def hour_bars(hours: Sequence[HourOfRuns]) -> list[HourBar]:
    """The hours as bars, the highest as high as the chart."""
    most = max((sum(hour.ended.values()) for hour in hours), default=0) or 1
    listing = reverse("admin:tasks_app_taskrun_changelist")
    return [
        HourBar(
            hour,
            number * (BAR_WIDTH + BAR_GAP),
            list(_parts(hour, most)),
            f"{listing}?{urlencode({'hour': f'{hour.hour:%Y-%m-%dT%H:%M}'})}",
            is_labelled=hour.hour.hour % LABELLED_HOURS == 0,
        )
        for number, hour in enumerate(hours)
    ]


def _parts(hour: HourOfRuns, most: int) -> Iterator[Part]:
    """From the ground up."""
    counts = {
        "succeeded": hour.succeeded,
        "skipped": hour.other,
        "failed": hour.failed,
    }
    room = CHART_HEIGHT - LEAST_HEIGHT * 2
    y = float(CHART_HEIGHT)
    for status, runs in counts.items():
        if runs:
            height = max(LEAST_HEIGHT, room * runs / most)
            y -= height
            yield Part(status, round(y, 1), round(height, 1))
