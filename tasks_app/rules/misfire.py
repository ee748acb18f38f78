"""What becomes of the fires that are due: which run, which are skipped and counted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from tasks_app.rules.cron import TICK
from tasks_app.rules.schedules import (
    Schedule,
    count_fires,
    fires_due,
    newest_fires,
    next_fire,
)

MisfirePolicy = Literal["latest", "all", "none"]

MAX_SKIPPED_ROWS = 100


@dataclass(frozen=True)
class SkippedRange:
    """Skipped fires too many for a row each: both ends are fires, and inclusive."""

    count: int
    first: datetime
    last: datetime


@dataclass(frozen=True)
class MisfirePlan:
    """Every fire due, accounted for once: oldest first `summary`, `skipped`, `run`."""

    run: list[datetime]
    skipped: list[datetime]
    summary: SkippedRange | None
    next_fire_at: datetime | None
    skip_reason: str = ""


def misfire_plan(
    schedule: Schedule,
    cursor: datetime,
    now: datetime,
    policy: MisfirePolicy,
    cap: int = 1000,
    *,
    misfire_grace_seconds: float = 60,
) -> MisfirePlan:
    """Decide about every fire in [cursor, now].

    A fire is on time until it is older than the grace, and on time it always runs: an
    every-second task whose beat ticks two seconds late runs both fires. An older fire
    is missed, and the policy decides:

    - `none`: it is skipped.
    - `latest`: the newest fire due stands in for all that were missed. If that one is
      on time it runs anyway; else the newest missed fire runs. The others are skipped.
    - `all`: it runs.

    Whatever the policy, at most `cap` run, and the oldest beyond are skipped. So the
    runs are always the newest fires and the skipped ones the oldest. Of the skipped,
    the newest 100 are listed and the rest are counted in `summary`.

    A clock that went back (`now` before `cursor`) plans nothing and keeps the cursor.
    The cursor is where counting begins; it need not be a fire of the schedule.
    """
    if now < cursor:
        return MisfirePlan([], [], None, cursor)
    start = cursor - TICK  # windows are (after, until], and the cursor itself is due
    oldest_on_time = now - timedelta(seconds=misfire_grace_seconds)
    if cursor >= oldest_on_time:  # the usual tick: nothing can be missed
        few, following = fires_due(schedule, cursor, now, cap + 1)
        if len(few) <= cap:
            return MisfirePlan(few, [], None, following)

    due = count_fires(schedule, start, now)
    on_time = count_fires(schedule, max(start, oldest_on_time - TICK), now)
    wanted = {"none": on_time, "latest": max(on_time, min(due, 1)), "all": due}[policy]
    running = min(wanted, max(cap, 0))
    listed = min(due - running, MAX_SKIPPED_ROWS)
    summarised = due - running - listed

    # One more than the rows: the newest fire of the summary.
    newest = newest_fires(schedule, start, now, running + listed + min(summarised, 1))
    split = len(newest) - running
    return MisfirePlan(
        run=newest[split:],
        skipped=newest[split - listed : split],
        summary=_summary(schedule, start, summarised, newest),
        next_fire_at=next_fire(schedule, now),
        skip_reason=_skip_reason(policy, wanted, cap) if due > running else "",
    )


def _summary(
    schedule: Schedule, start: datetime, count: int, newest: list[datetime]
) -> SkippedRange | None:
    first = next_fire(schedule, start) if count else None
    return SkippedRange(count, first, newest[0]) if first is not None else None


def _skip_reason(policy: MisfirePolicy, wanted: int, cap: int) -> str:
    if wanted > cap:
        return f"missed: at most {cap} fires are made up for at once"
    if policy == "latest":
        return "missed: the newest fire runs in its place (misfire policy latest)"
    return "missed: the misfire policy is none"
