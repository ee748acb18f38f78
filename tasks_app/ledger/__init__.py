"""The ledger: the one place that writes what happened to runs.

Each verb is one transition, or a few that belong together, as a compare-and-set in
the database: its document says from which state, to which, behind which fence, and
what an empty answer means. Verbs take lists and cost a fixed number of statements.
Called inside a transaction, a verb joins it.
"""

from __future__ import annotations

from tasks_app.ledger.attempts import append_logs, claim, finish, heartbeat
from tasks_app.ledger.cancelling import CancelAnswer, cancel
from tasks_app.ledger.creating import Planned, create, next_fire_at, plan
from tasks_app.ledger.dialects import database_now
from tasks_app.ledger.publishing import next_publish_at, publish, unpublish
from tasks_app.ledger.records import (
    Beat,
    ClaimedRun,
    Doorbell,
    Finish,
    HeartbeatAnswer,
    Lease,
    LogChunk,
    NewRun,
)
from tasks_app.ledger.upkeep import expire, reap

__all__ = [
    "Beat",
    "CancelAnswer",
    "ClaimedRun",
    "Doorbell",
    "Finish",
    "HeartbeatAnswer",
    "Lease",
    "LogChunk",
    "NewRun",
    "Planned",
    "append_logs",
    "cancel",
    "claim",
    "create",
    "database_now",
    "expire",
    "finish",
    "heartbeat",
    "next_fire_at",
    "next_publish_at",
    "plan",
    "publish",
    "reap",
    "unpublish",
]
