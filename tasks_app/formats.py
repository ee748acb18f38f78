"""Times, durations and exit codes in words for people.

Outside of `admin`, for template tags are loaded while the admin still is.
"""

from __future__ import annotations

import signal
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.db.models import Model
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from tasks_app.choices import RunStatus
from tasks_app.ledger.searching import RecentRun
from tasks_app.models import TaskRun
from tasks_app.rules.schedules import ScheduleInvalid, parse_timezone

_STEPS = (
    (365 * 86_400, "yr.", "yr."),
    (30 * 86_400, "mo.", "mo."),
    (86_400, "day", "days"),
    (3_600, "hr.", "hr."),
    (60, "min.", "min."),
    (1, "sec.", "sec."),
)

_EXIT_CODES = {
    0: gettext_lazy("success"),
    1: gettext_lazy("general error"),
    2: gettext_lazy("wrong usage, or a syntax error of the shell"),
    126: gettext_lazy("found, but not executable"),
    127: gettext_lazy("command not found"),
}


def relative(at: datetime, now: datetime) -> str:
    """How far off a time is: "3 min. ago", "in 2 hr.", as browsers say it, for the
    page's script goes on from here."""
    seconds = int((at - now).total_seconds())
    size, one, many = next(
        (step for step in _STEPS if abs(seconds) >= step[0]), _STEPS[-1]
    )
    number = abs(seconds) // size
    if number == 0:
        return _("now")
    amount = f"{number} {ngettext(one, many, number)}"
    template = _("in {amount}") if seconds > 0 else _("{amount} ago")
    return template.format(amount=amount)


def zone_of(name: str) -> ZoneInfo:
    """The zone of a task; UTC for a name that this host's database has lost."""
    try:
        return parse_timezone(name)
    except ScheduleInvalid:
        return ZoneInfo("UTC")


def absolute(at: datetime, zone: str = "UTC") -> str:
    """A time in a zone, and in UTC if that is another one."""
    local = at.astimezone(zone_of(zone))
    text = f"{local:%Y-%m-%d %H:%M:%S} {zone}"
    return text if zone == "UTC" else f"{text} · {at:%Y-%m-%d %H:%M:%S} UTC"


def time_of_day(at: datetime) -> str:
    """To the millisecond, in UTC."""
    return f"{at:%H:%M:%S}.{at.microsecond // 1000:03}"


def duration(length: timedelta) -> str:
    """A length of time with two digits of meaning: 42 ms, 3.1 s, 3m 05s, 2h 07m."""
    seconds = length.total_seconds()
    if seconds < 1:
        return f"{max(round(seconds * 1000), 0)} ms"
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m {rest:02}s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours}h {minutes:02}m"
    days, hours = divmod(hours, 24)
    return f"{days}d {hours:02}h"


def run_duration(run: TaskRun | RecentRun) -> timedelta | None:
    """How long a run's last attempt took, or has taken so far."""
    if run.started_at is None or run.status == RunStatus.QUEUED:
        return None
    return max((run.completed_at or timezone.now()) - run.started_at, timedelta())


def queue_wait(run: TaskRun) -> timedelta | None:
    """From when the last attempt might start to when it did."""
    if run.started_at is None:
        return None
    return max(run.started_at - max(run.due_at, run.created_at), timedelta())


def choice_label(model: type[Model], field: str, value: str) -> str:
    """What people read for a choice. As `get_FOO_display`, which translates all choices
    of the field each time, and lists show hundreds."""
    stored: Any = model._meta.get_field(field)
    return str(dict(stored.flatchoices).get(value, value))


def run_status(status: str) -> str:
    """The state of a run in words."""
    return choice_label(TaskRun, "status", status)


def exit_code_meaning(code: int) -> str:
    """What a shell means by an exit code (POSIX, Shell Command Language 2.8.2), and
    which signal ended a process: minus its number, or 128 more, as a shell tells it."""
    if code in _EXIT_CODES:
        return str(_EXIT_CODES[code])
    number = -code if code < 0 else code - 128
    if number not in signal.valid_signals():
        return _("the command's own code")
    return _signal_meaning(signal.Signals(number))


def _signal_meaning(ended_by: signal.Signals) -> str:
    hints = {
        signal.SIGKILL: _("killed, often for want of memory"),
        signal.SIGTERM: _("asked to stop"),
        signal.SIGINT: _("interrupted"),
        signal.SIGSEGV: _("invalid memory access"),
        signal.SIGABRT: _("the program gave up"),
        signal.SIGPIPE: _("its reader had gone"),
    }
    hint = hints.get(ended_by)
    return f"{ended_by.name}: {hint}" if hint else ended_by.name
