"""Circuit breakers of the targets of HTTP tasks, shared by all workers as rows.

While a target's breaker is not closed, the queued runs of its tasks are held; the
probe is the one that is admitted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import transaction

from tasks_app.choices import AlertKind, BreakerState
from tasks_app.ledger.admission import admit
from tasks_app.ledger.alerts import alert_raise, alert_resolve
from tasks_app.ledger.announcing import announce
from tasks_app.ledger.dialects import as_json, dialect, fetch
from tasks_app.ledger.eligibility import HELD, QUEUED
from tasks_app.ledger.pruning import unfinished
from tasks_app.ledger.records import Doorbell
from tasks_app.rules.breaker import BreakerMove, breaker_move, is_well


@dataclass(frozen=True, slots=True)
class Call:
    """The end of one attempt that called a target."""

    run_id: int
    target: str
    status: str
    reason: str
    result: Any


def note(calls: Iterable[Call]) -> None:
    """Count the ends of calls, in the transaction of the ends; open and close breakers.

    A target that is well and had not failed costs one look at an empty row.
    """
    by_target: dict[str, list[tuple[Call, bool]]] = defaultdict(list)
    for call in calls:
        is_success = is_well(call.status, call.reason, call.result)
        if is_success is not None:
            by_target[call.target].append((call, is_success))
    if not by_target:
        return
    unwell = sorted(
        target
        for target, ends in by_target.items()
        if not all(is_success for _, is_success in ends)
    )
    _make_rows(unwell)
    for row in _lock(sorted(by_target)):
        _note(row, by_target[row[0]])


def _make_rows(targets: Sequence[str]) -> None:
    if targets:
        sql = dialect()
        fetch(
            f"""
            INSERT INTO tasks_app_breaker (target, state, failures)
            SELECT target, 'closed', 0 FROM {sql.rows({"target": "text"})} WHERE true
            ON CONFLICT DO NOTHING
            """,
            as_json([{"target": target} for target in targets]),
        )


def _lock(targets: Sequence[str]) -> list[tuple[Any, ...]]:
    marks = ", ".join(["%s"] * len(targets))
    return fetch(
        "SELECT target, state, failures, probe_run_id FROM tasks_app_breaker"
        f" WHERE target IN ({marks}) ORDER BY target {dialect().lock}",
        *targets,
    )


def _note(row: tuple[Any, ...], ends: Sequence[tuple[Call, bool]]) -> None:
    target, state, failures, probe_run_id = row
    move = BreakerMove(state, failures)
    for call, is_success in ends:
        move = breaker_move(
            move.state,
            move.failures,
            settings.BREAKER_FAILURES,
            is_success=is_success,
            is_probe=call.run_id == probe_run_id,
        )
    if move == BreakerMove(state, failures):
        return
    fetch(
        f"""
        UPDATE tasks_app_breaker SET state = %s, failures = %s, probe_run_id = NULL,
            opened_at = CASE WHEN %s = 'open' THEN {dialect().now} END
        WHERE target = %s
        """,
        move.state,
        move.failures,
        move.state,
        target,
    )
    if move.state == BreakerState.OPEN:
        _hold(target)
        alert_raise(
            AlertKind.BREAKER_OPEN,
            target,
            f"{target} failed {move.failures} times in a row: its runs wait, and one"
            f" probe goes out every {settings.BREAKER_SECONDS:g} s",
        )
    elif state != BreakerState.CLOSED:
        alert_resolve(AlertKind.BREAKER_OPEN, [target])
        admit(_held_tasks(target))


def _hold(target: str) -> None:
    fetch(
        "UPDATE tasks_app_taskrun SET admission = 'held'"
        f" WHERE target = %s AND target <> '' AND {QUEUED}",
        target,
    )


def _held_tasks(target: str) -> list[int]:
    rows = fetch(
        "SELECT DISTINCT task_id FROM tasks_app_taskrun"
        f" WHERE target = %s AND target <> '' AND {QUEUED} AND {HELD}",
        target,
    )
    return [row[0] for row in rows]


def probe() -> int:
    """OPEN -> HALF_OPEN where the pause is over: admit one run of the target first.

    A probe that ended without telling anything (cancelled, its worker lost) leaves
    the breaker open for the next one. Returns how many probes were sent.
    """
    sql = dialect()
    with transaction.atomic(savepoint=False):
        fetch(
            f"""
            UPDATE tasks_app_breaker SET state = 'open', probe_run_id = NULL
            WHERE state = 'half_open' AND NOT EXISTS (
                SELECT 1 FROM tasks_app_taskrun r WHERE r.id = probe_run_id
                AND r.status IN ('queued', 'running') AND NOT r.{HELD}
                {unfinished("r.id")})
            """
        )
        rows = fetch(
            f"""
            SELECT target FROM tasks_app_breaker
            WHERE state = 'open' AND opened_at <= {sql.later("%s")}
            ORDER BY target {sql.skip_locked}
            """,
            -settings.BREAKER_SECONDS,
        )
        return sum(_probe(target) for (target,) in rows)


def _probe(target: str) -> int:
    picked = fetch(
        f"""
        UPDATE tasks_app_taskrun SET admission = 'admitted'
        WHERE id IN (
            SELECT id FROM tasks_app_taskrun
            WHERE target = %s AND target <> '' AND {QUEUED} AND {HELD}
            AND due_at <= {dialect().now}
            ORDER BY priority DESC, due_at, id LIMIT 1)
        AND {QUEUED}
        RETURNING id, queue, lane
        """,
        target,
    )
    for run_id, queue, lane in picked:
        fetch(
            "UPDATE tasks_app_breaker SET state = 'half_open', probe_run_id = %s"
            " WHERE target = %s",
            run_id,
            target,
        )
        announce([Doorbell(queue, lane)])
    return len(picked)


def close(target: str) -> bool:
    """OPEN or HALF_OPEN -> CLOSED by a person, who knows that the target is well: its
    runs go on. False if it is closed already, or unknown."""
    with transaction.atomic(savepoint=False):
        rows = fetch(
            """
            UPDATE tasks_app_breaker SET state = 'closed', failures = 0,
                opened_at = NULL, probe_run_id = NULL
            WHERE target = %s AND state <> 'closed' RETURNING target
            """,
            target,
        )
        if rows:
            alert_resolve(AlertKind.BREAKER_OPEN, [target])
            admit(_held_tasks(target))
    return bool(rows)
