"""An attempt's life: claimed by a worker, kept by heartbeats, finished once.

`attempt` is the fencing token. Whoever speaks for an attempt that the run has left
behind changes nothing.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from typing import Any

from django.conf import settings
from django.db import transaction

from tasks_app.choices import Admission, EventKind, RunStatus
from tasks_app.ledger import breakers
from tasks_app.ledger.admission import NO_LIMIT, has_limits, queue_rooms
from tasks_app.ledger.announcing import announce
from tasks_app.ledger.definitions import Definitions
from tasks_app.ledger.dialects import as_json, as_time, dialect, fetch
from tasks_app.ledger.eligibility import conditions
from tasks_app.ledger.events import Change, Event, changed, event, record
from tasks_app.ledger.fleet import waiting_lanes
from tasks_app.ledger.plans import keep_plans
from tasks_app.ledger.pruning import looked_up, these, unfinished
from tasks_app.ledger.records import (
    ENDED,
    ENDED_KINDS,
    Beat,
    Claimant,
    ClaimedRun,
    Doorbell,
    Ended,
    Finish,
    HeartbeatAnswer,
    Lease,
    Outlook,
)
from tasks_app.ledger.settling import follow
from tasks_app.ledger.tallies import tally
from tasks_app.models import TaskRun
from tasks_app.rules.placement import lane_refusal

MAX_LANES = 50
"""Lanes beside the common one in one claim; of more, each claim draws its own."""


def outlook(claimant: Claimant) -> Outlook:
    """Where runs wait for this worker, and whether limits concern it: what claims of
    the next moment may go by."""
    return Outlook(tuple(_lanes(claimant)), has_limits=has_limits(claimant.queues))


def _lanes(claimant: Claimant) -> list[str]:
    waiting = [
        lane
        for lane in waiting_lanes()
        if not lane_refusal(claimant.name, claimant.tags, lane)
    ]
    if len(waiting) > MAX_LANES:
        waiting = random.sample(waiting, MAX_LANES)
    return ["", *waiting]


_STILL_QUEUED = "status || '' = 'queued'"
"""As QUEUED, but of no index's condition: PostgreSQL takes the backlog for small until
it has statistics of it, and would read all of it rather than look up the best."""
_STARTED = {
    "id": "int", "attempt": "int", "task_id": "int", "scheduled_for": "time",
    "params": "text", "task_name": "text", "version_id": "int", "definition": "text",
    "shard_index": "int", "shard_total": "int", "priority": "int", "due_at": "time",
}  # fmt: skip


def claim(
    claimant: Claimant,
    limit: int,
    expected: Outlook | None = None,
    definitions: Definitions | None = None,
) -> list[ClaimedRun]:
    """QUEUED -> RUNNING: start the next attempt of the best runs that wait.

    Fence: the run is queued and not held, due, and within its start deadline; its
    queue has room, and the worker is not draining. By priority, then by the time it
    is due. Fewer than `limit` in the answer: nothing more waits for this worker.
    `expected`: what `outlook` has told lately; asked for here if not given. A queue
    that was given its first limit since is passed over. `definitions`: those that the
    claimant has read before; the others are added.
    """
    keep_plans()
    expected = expected or outlook(claimant)
    definitions = definitions or Definitions()
    known = definitions.known()
    if expected.has_limits:  # their rows stay locked until the runs count
        with transaction.atomic(savepoint=False):
            rows = _start(claimant, limit, expected, known)
    else:
        rows = _start(claimant, limit, expected, known)
    rows.sort(key=lambda row: (-row[10], row[11], row[0]))
    return [_claimed(row, definitions) for row in rows]


def _start(
    claimant: Claimant, limit: int, expected: Outlook, known: Sequence[int]
) -> list[tuple[Any, ...]]:
    """The compare-and-set of `claim`, with the events; returns the runs it started,
    those of the `known` versions without a definition."""
    sql = dialect()
    best, params = _best(claimant, limit, expected)
    is_known = f"version_id {sql.one_of(sql.ids())}"
    start = f"""
        WITH best AS MATERIALIZED ({best}),
            this AS MATERIALIZED (SELECT {sql.now} AS at)
        UPDATE tasks_app_taskrun SET
            status = %s, attempt = attempt + 1, worker_id = %s,
            started_at = (SELECT at FROM this), lease_expires_at = {sql.later("%s")}
        WHERE id {sql.one_of("SELECT id FROM best")} AND {_STILL_QUEUED} {unfinished()}
        RETURNING id, attempt, task_id, scheduled_for, params,
            (SELECT name FROM tasks_app_task t WHERE t.id = task_id) AS task_name,
            version_id, CASE WHEN NOT ({is_known}) THEN
                (SELECT v.definition FROM tasks_app_taskversion v
                WHERE v.id = version_id) END AS definition,
            shard_index, shard_total, priority, due_at
        """
    params += [RunStatus.RUNNING, claimant.worker_id, settings.LEASE_SECONDS]
    params.append(as_json(known))
    return changed(
        Change(start, params, _STARTED),
        event(
            run_id="id",
            kind=f"'{EventKind.STARTED.value}'",
            attempt="attempt",
            status=f"'{RunStatus.RUNNING.value}'",
            actor="''",
            detail=sql.json(worker_id=str(int(claimant.worker_id))),
        ),
    )


def _best(claimant: Claimant, limit: int, expected: Outlook) -> tuple[str, list[Any]]:
    """A query for the runs to claim: each queue and lane is one walk along an index,
    for a walk over several at once would sort the whole backlog."""
    sql = dialect()
    may_start = " AND ".join(conditions().values())
    recent = unfinished()
    room = queue_rooms(claimant.queues) if expected.has_limits else None
    unlimited = "" if expected.has_limits else f"AND {NO_LIMIT}"
    picks: list[str] = []
    params: list[Any] = []
    for queue in claimant.queues:
        lanes = " UNION ALL ".join(
            [
                f"""
                SELECT * FROM (
                    SELECT id, priority, due_at FROM tasks_app_taskrun
                    WHERE queue = %s AND lane = %s AND {may_start} {recent}
                    AND (SELECT NOT is_draining FROM workers_app_workerinfo w
                        WHERE w.id = %s) {unlimited}
                    ORDER BY priority DESC, due_at, id LIMIT %s {sql.skip_locked}) AS l
                """
            ]
            * len(expected.lanes)
        )
        size = limit if room is None else min(limit, room.get(queue, limit))
        asked = [queue] if room is None else []
        for lane in expected.lanes:
            params += [queue, lane, *[claimant.worker_id] * 2, *asked, size]
        params.append(size)
        picks.append(
            f"""SELECT * FROM (SELECT id, priority, due_at FROM ({lanes}) AS a
                ORDER BY priority DESC, due_at, id LIMIT %s) AS q"""
        )
    params.append(limit)
    return (
        f"""SELECT id FROM ({" UNION ALL ".join(picks)}) AS b
            ORDER BY priority DESC, due_at, id LIMIT %s""",
        params,
    )


def _claimed(row: tuple[Any, ...], definitions: Definitions) -> ClaimedRun:
    run_id, attempt, task_id, scheduled_for, params, task_name = row[:6]
    return ClaimedRun(
        run_id=run_id,
        attempt=attempt,
        task_id=task_id,
        task_name=task_name,
        scheduled_for=as_time(scheduled_for),
        params=json.loads(params),
        definition=definitions.of(row[6], row[7]),
        shard_index=row[8],
        shard_total=row[9],
    )


def heartbeat(beat: Beat, leases: Sequence[Lease]) -> HeartbeatAnswer:
    """Note that a worker lives, renew its leases, and learn what to stop.

    One statement on PostgreSQL. Fence: each lease's run is running this attempt;
    one that is not comes back as `gone`, and its job is to be stopped.
    """
    is_draining, rows = _beat(beat, leases)
    held = {run_id for run_id, _cancel_requested_at in rows}
    return HeartbeatAnswer(
        cancel=frozenset(run_id for run_id, asked_at in rows if asked_at),
        gone=frozenset(lease.run_id for lease in leases if lease.run_id not in held),
        is_draining=is_draining,
    )


def _beat(beat: Beat, leases: Sequence[Lease]) -> tuple[bool, list[tuple[Any, ...]]]:
    """Whether the worker is draining, and the leases that were renewed: run, and when
    its cancel was asked for."""
    sql = dialect()
    # The worker's row belongs to workers_app; it is named here so that a fleet's
    # heartbeats cost one statement each.
    tell = f"""
        UPDATE workers_app_workerinfo
        SET last_heartbeat = {sql.now}, status = %s, current_tasks = %s WHERE id = %s
        RETURNING is_draining
        """
    told = (beat.status, beat.current_tasks, beat.worker_id)
    if not leases:  # there would be no day to prune by
        return any(row[0] for row in fetch(tell, *told)), []
    renew = f"""
        UPDATE tasks_app_taskrun SET lease_expires_at = {sql.later("%s")}
        FROM {sql.rows({"run_id": "int", "attempt": "int"})}
        WHERE id = v.run_id AND tasks_app_taskrun.attempt = v.attempt
        AND status || '' = %s {these([lease.run_id for lease in leases])}
        RETURNING id, cancel_requested_at
        """
    renewed = (settings.LEASE_SECONDS, as_json(leases), RunStatus.RUNNING)
    if not sql.writes_in_cte:
        with transaction.atomic(savepoint=False):
            is_draining = any(row[0] for row in fetch(tell, *told))
            return is_draining, fetch(renew, *renewed)
    rows = fetch(
        f"""
        WITH beat AS ({tell}), renewed AS ({renew})
        SELECT id, cancel_requested_at, (SELECT is_draining FROM beat)
        FROM renewed RIGHT JOIN (SELECT 1) AS always ON true
        """,
        *told,
        *renewed,
    )
    return bool(rows[0][2]), [row[:2] for row in rows if row[0] is not None]


_ANSWERS = {
    **ENDED_KINDS, "due_at": "time", "target": "text", "queue": "text", "lane": "text",
}  # fmt: skip
_ENDED = {
    **_ANSWERS, "exit_code": "int", "reason": "text", "error": "text",
    "started_at": "time", "completed_at": "time",
}  # fmt: skip
_FINISH = {
    "run_id": "int",
    "attempt": "int",
    "status": "text",
    "exit_code": "int",
    "result": "json",
    "error": "text",
    "reason": "text",
    "log_truncated": "bool",
    "retry_seconds": "float",
}


def finish(finishes: Sequence[Finish]) -> frozenset[Lease]:
    """RUNNING -> a terminal state, or -> QUEUED for the next attempt.

    Fence: the run is running this very attempt. A finish that comes too late is kept
    as a `stale_result` event and changes nothing (C5). A run whose cancel was asked
    for is not retried. Children are created in the same transaction. A finish that is
    repeated, because its answer was lost with the connection, counts as accepted.

    Returns:
        The attempts whose outcome was accepted.
    """
    if not finishes:
        return frozenset()
    with transaction.atomic(savepoint=False):
        rows = _end_attempts(finishes)
        accepted = {Lease(row[0], row[1]): row for row in rows}
        refused = [done for done in finishes if done.lease not in accepted]
        repeated = _repeated(refused)
        record(_exceptions(finishes, accepted, repeated))
        breakers.note(_calls(finishes, accepted))
        follow([Ended.of(row) for row in rows])
        announce(_ready_at_once(finishes, accepted))
    return frozenset(accepted) | repeated


def _end_attempts(finishes: Sequence[Finish]) -> list[tuple[Any, ...]]:
    """The compare-and-set of `finish`, with the events and the count of the runs that
    it ended; returns the runs that it changed.

    CASE keeps SQLite from the index on status, along which it would compare each
    running run with each end; and PostgreSQL from taking the runs for one or none,
    which has it do the same.
    """
    sql = dialect()
    is_retry = "(v.retry_seconds IS NOT NULL AND cancel_requested_at IS NULL)"
    run_ids = [done.run_id for done in finishes]
    end = f"""
        WITH done AS MATERIALIZED (SELECT * FROM {sql.rows(_FINISH)})
        UPDATE tasks_app_taskrun SET
            status = CASE WHEN {is_retry} THEN %s ELSE v.status END,
            completed_at = CASE WHEN NOT {is_retry} THEN {sql.now} END,
            due_at = CASE WHEN {is_retry}
                THEN {sql.later("v.retry_seconds")} ELSE due_at END,
            admission = CASE WHEN {is_retry} AND admission = 'admitted'
                THEN 'held' ELSE admission END,
            lease_expires_at = NULL,
            exit_code = v.exit_code,
            result = v.result,
            error = v.error,
            reason = v.reason,
            log_truncated = v.log_truncated
        FROM done AS v
        WHERE id = v.run_id AND tasks_app_taskrun.attempt = v.attempt
        AND CASE tasks_app_taskrun.status WHEN %s THEN true ELSE false END
        {looked_up("SELECT run_id FROM done", run_ids)}
        RETURNING {ENDED}, due_at, target, queue, lane,
            tasks_app_taskrun.exit_code, tasks_app_taskrun.reason,
            tasks_app_taskrun.error, started_at, completed_at
        """
    params = [as_json(finishes), RunStatus.QUEUED, RunStatus.RUNNING]
    is_over = f"status <> '{RunStatus.QUEUED.value}'"
    return changed(
        Change(end, params, _ENDED, tuple(_ANSWERS)),
        event(
            where=is_over,
            run_id="id",
            kind=f"'{EventKind.FINISHED.value}'",
            attempt="attempt",
            status="status",
            actor="''",
            detail=sql.json(
                outcome="status",
                exit_code="exit_code",
                reason="NULLIF(reason, '')",
                error="NULLIF(error, '')",
            ),
        ),
        tally(f"changed WHERE {is_over}"),
    )


def _repeated(refused: Sequence[Finish]) -> frozenset[Lease]:
    """Those of the refused finishes that the run already shows."""
    if not refused:
        return frozenset()
    shown = {
        run_id: (attempt, status)
        for run_id, attempt, status in TaskRun.objects.filter(
            pk__in=[done.run_id for done in refused]
        ).values_list("id", "attempt", "status")
    }
    return frozenset(
        done.lease
        for done in refused
        if shown.get(done.run_id) == (done.attempt, done.status)
        or (
            done.retry_seconds is not None
            and shown.get(done.run_id) == (done.attempt, RunStatus.QUEUED)
        )
    )


def _exceptions(
    finishes: Sequence[Finish],
    accepted: dict[Lease, tuple[Any, ...]],
    repeated: frozenset[Lease],
) -> Iterator[Event]:
    """The events of the attempts that did not end their run: refused, or retried."""
    for done in finishes:
        row = accepted.get(done.lease)
        if row is None and done.lease not in repeated:
            kind, status, due_at = EventKind.STALE_RESULT, done.status, None
        elif row is not None and row[2] == RunStatus.QUEUED:
            kind, status, due_at = EventKind.RETRIED, row[2], as_time(row[8])
        else:
            continue
        detail = {
            "outcome": done.status,
            "exit_code": done.exit_code,
            "reason": done.reason or None,
            "error": done.error or None,
            "due_at": due_at and due_at.isoformat(),
        }
        told = {name: value for name, value in detail.items() if value is not None}
        yield Event(done.run_id, kind, done.attempt, status, detail=told)


def _ready_at_once(
    finishes: Sequence[Finish], accepted: dict[Lease, tuple[Any, ...]]
) -> list[Doorbell]:
    """Doorbells for runs whose next attempt is due without delay."""
    return [
        Doorbell(row[10], row[11])
        for done in finishes
        if done.retry_seconds == 0
        and (row := accepted.get(done.lease))
        and row[2] == RunStatus.QUEUED
        and row[6] == Admission.FREE
    ]


def _calls(
    finishes: Sequence[Finish], accepted: dict[Lease, tuple[Any, ...]]
) -> list[breakers.Call]:
    """What the accepted ends tell about the targets that they called."""
    return [
        breakers.Call(done.run_id, row[9], done.status, done.reason, done.result)
        for done in finishes
        if (row := accepted.get(done.lease)) and row[9]
    ]
