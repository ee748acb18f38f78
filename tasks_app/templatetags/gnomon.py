"""Tags of the pages: states, times, durations, and JSON for people."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from html import escape
from typing import Any

from django import template
from django.templatetags.static import static
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from tasks_app import formats
from tasks_app.models import TaskRun

register = template.Library()

NOTHING = "\N{EN DASH}"

register.filter("duration", formats.duration)
register.filter("took", formats.run_duration)
register.filter("start_delay", formats.queue_wait)
register.filter("exit_code_meaning", formats.exit_code_meaning)
register.filter("run_status", formats.run_status)


# Lists have fifty badges and a thousand bars: as templates, these took most of a page.
@register.simple_tag
def badge(thing: Any) -> SafeString:
    """The state of a task, a run or a worker: icon and word, never colour alone."""
    return run_badge(
        thing.status, formats.choice_label(type(thing), "status", thing.status)
    )


@register.simple_tag
def run_badge(status: str, label: str) -> SafeString:
    """A state given as value and label."""
    return format_html(
        '<span class="gn-badge gn-is-{0}"><svg class="gn-icon" aria-hidden="true">'
        '<use href="{1}#{0}"></use></svg>{2}</span>',
        status,
        static("gnomon/icons.svg"),
        label,
    )


@register.simple_tag
def sparkline(bars: Iterable[Any], width: int, label: str) -> SafeString:
    """The bars of `tasks_app.admin.sparklines` as SVG, `width` pixels wide."""
    return format_html(
        '<svg class="gn-bars" width="{}" height="24" role="img" aria-label="{}">{}'
        "</svg>",
        width,
        label,
        mark_safe("".join(map(_rect, bars))),  # noqa: S308 - texts are escaped there
    )


def _rect(bar: Any) -> str:
    title = ""
    if bar.label:
        took = "" if bar.seconds is None else f", {seconds_long(bar.seconds)}"
        title = f"<title>{escape(bar.label + took)}</title>"
    return (
        f'<rect class="gn-fill-{escape(bar.status)}" x="{bar.x}" y="{bar.y}" width="5"'
        f' height="{bar.height}" rx="1">{title}</rect>'
    )


@register.simple_tag
def moment(at: datetime | None, zone: str = "UTC") -> SafeString | str:
    """A time by its distance; the exact one, in its zone and UTC, is the title."""
    if at is None:
        return NOTHING
    return format_html(
        '<time datetime="{}" title="{}" data-relative>{}</time>',
        at.isoformat(),
        formats.absolute(at, zone),
        formats.relative(at, timezone.now()),
    )


@register.simple_tag
def clock(at: datetime | None, zone: str = "UTC") -> SafeString | str:
    """A time as the clock of its zone shows it; full minutes without seconds."""
    if at is None:
        return NOTHING
    local = at.astimezone(formats.zone_of(zone))
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        at.isoformat(),
        formats.absolute(at, zone),
        f"{local:%Y-%m-%d %H:%M:%S}" if local.second else f"{local:%Y-%m-%d %H:%M}",
    )


@register.simple_tag
def time_of_day(at: datetime) -> SafeString:
    """The time of a line of output, to the millisecond, in UTC."""
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        at.isoformat(),
        formats.absolute(at),
        formats.time_of_day(at),
    )


@register.filter
def trigger(run: TaskRun) -> str:
    """Why a run exists, in words."""
    return formats.choice_label(TaskRun, "trigger", run.trigger)


@register.filter
def seconds_long(seconds: float) -> str:
    """A number of seconds as a duration."""
    return formats.duration(timedelta(seconds=seconds))


@register.filter
def percent(share: float) -> str:
    """A percentage that says 100 only of all."""
    shown = min(share, 99.9) if share < 100 else share
    return f"{shown:.1f} %".replace("100.0", "100")


@register.filter
def pretty_json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


@register.filter
def who(actor: str) -> str:
    """An actor as people call it: `user:ada` is ada."""
    return actor.removeprefix("user:")
