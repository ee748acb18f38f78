"""A task's policies in words: those that are not the default."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from tasks_app.admin.policy_form import rate_text
from tasks_app.choices import Overlap, Placement, TriggerRule
from tasks_app.formats import duration
from tasks_app.models import Task

DEFAULT_PRIORITY = Task._meta.get_field("priority").default

OVERLAPS: dict[str, Any] = {
    Overlap.SKIP: gettext_lazy("skips a new one"),
    Overlap.QUEUE: gettext_lazy("lets a new one wait"),
    Overlap.REPLACE: gettext_lazy("cancels the oldest for a new one"),
}
PLACEMENTS: dict[str, Any] = {
    Placement.LEAST_LOADED: gettext_lazy("on the least loaded worker"),
    Placement.SAME_WORKER: gettext_lazy("on the same worker as last time"),
    Placement.BROADCAST: gettext_lazy("on each online worker"),
}
TRIGGER_RULES: dict[str, Any] = {
    TriggerRule.ANY_SUCCESS: gettext_lazy("when one of its parents succeeded"),
    TriggerRule.ALL_DONE: gettext_lazy("when all its parents ended"),
    TriggerRule.ALL_FAILED: gettext_lazy("when all its parents failed"),
}


def policy_texts(task: Task) -> list[tuple[str, str]]:
    """Each policy that was set, as a label and a few words. The calendars, which are
    links, are not among them."""
    return [*_limits(task), *_places(task), *_times(task)]


def _limits(task: Task) -> Iterator[tuple[str, str]]:
    if task.overlap != Overlap.ALLOW:
        at_a_time = ngettext(
            "%d run at a time", "%d runs at a time", task.max_concurrency or 1
        ) % (task.max_concurrency or 1)
        yield _("Overlap"), f"{at_a_time}; {OVERLAPS[task.overlap]}"
    if task.max_queued is not None:
        yield (
            _("Waiting runs"),
            _("at most %d; more are skipped") % task.max_queued,
        )
    if rate := rate_text(task):
        yield _("Rate limit"), _("at most %s start") % rate
    if (failures := task.pause_after_failures) is not None:
        text = ngettext(
            "after %d failed run", "after %d failed runs in a row", failures
        )
        yield _("Pauses itself"), text % failures
    if (days := task.retention_days) is not None:
        text = ngettext("for %d day", "for %d days", days) if days else _("for ever")
        yield _("Keeps its runs"), text % days if days else text


def _places(task: Task) -> Iterator[tuple[str, str]]:
    if task.priority != DEFAULT_PRIORITY:
        yield _("Priority"), _("%d of 9") % task.priority
    if task.placement == Placement.WORKER:
        yield _("Placement"), _("on the worker %s only") % task.worker_name
    elif task.placement != Placement.ANY:
        yield _("Placement"), str(PLACEMENTS[task.placement])
    if task.match:
        yield _("Worker tags"), task.match


def _times(task: Task) -> Iterator[tuple[str, str]]:
    if task.jitter_seconds:
        longest = duration(timedelta(seconds=task.jitter_seconds))
        yield _("Jitter"), _("starts up to %s later") % longest
    if task.trigger_rule != TriggerRule.ALL_SUCCESS:
        yield _("After its parents"), str(TRIGGER_RULES[task.trigger_rule])
