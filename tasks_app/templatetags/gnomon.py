"""Tags of the pages: states, times, durations, and JSON for people."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

from django import template
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from tasks_app import formats

register = template.Library()

NOTHING = "\N{EN DASH}"

register.filter("duration", formats.duration)
register.filter("took", formats.run_duration)
register.filter("start_delay", formats.queue_wait)
register.filter("exit_code_meaning", formats.exit_code_meaning)


@register.inclusion_tag("gnomon/badge.html")
def badge(thing: Any) -> dict[str, Any]:
    """The state of a task, a run or a worker: icon and word, never colour alone."""
    return {"status": thing.status, "label": thing.get_status_display()}


@register.inclusion_tag("gnomon/badge.html")
def run_badge(status: str, label: str) -> dict[str, Any]:
    """A state given as value and label."""
    return {"status": status, "label": label}


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
