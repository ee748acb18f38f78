"""The ledger: the one place that writes what happened to runs.

Each verb is one transition, or a few that belong together, as a compare-and-set in
the database: its document says from which state, to which, behind which fence, and
what an empty answer means. Verbs take lists and cost a fixed number of statements.
Called inside a transaction, a verb joins it.
"""

from __future__ import annotations

from tasks_app.ledger.admission import (
    Limit,
    admit_waiting,
    forget_starts,
    hold,
    limits,
)
from tasks_app.ledger.alerts import alert_raise, alert_resolve
from tasks_app.ledger.attempts import (
    claim,
    finish,
    heartbeat,
    outlook,
)
from tasks_app.ledger.breakers import close as breaker_close
from tasks_app.ledger.breakers import probe
from tasks_app.ledger.cancelling import CancelAnswer, cancel
from tasks_app.ledger.creating import create, create_one
from tasks_app.ledger.definitions import Definitions
from tasks_app.ledger.dialects import database_now
from tasks_app.ledger.eligibility import waits
from tasks_app.ledger.fleet import workers
from tasks_app.ledger.output import append_logs, cut_logs
from tasks_app.ledger.partitions import create_ahead
from tasks_app.ledger.planning import (
    PauseOutlook,
    Planned,
    end_pause,
    pause_outlook,
    plan,
    seconds_until_due,
)
from tasks_app.ledger.records import (
    Beat,
    Claimant,
    ClaimedRun,
    Doorbell,
    Finish,
    HeartbeatAnswer,
    Lease,
    LogChunk,
    LogCut,
    NewRun,
    Outlook,
)
from tasks_app.ledger.tallies import ended_by_hour
from tasks_app.ledger.unplaced import alert_unplaced
from tasks_app.ledger.upkeep import expire, expire_shards, reap

__all__ = [
    "Beat",
    "CancelAnswer",
    "Claimant",
    "ClaimedRun",
    "Definitions",
    "Doorbell",
    "Finish",
    "HeartbeatAnswer",
    "Lease",
    "Limit",
    "LogChunk",
    "LogCut",
    "NewRun",
    "Outlook",
    "PauseOutlook",
    "Planned",
    "admit_waiting",
    "alert_raise",
    "alert_resolve",
    "alert_unplaced",
    "append_logs",
    "breaker_close",
    "cancel",
    "claim",
    "create",
    "create_ahead",
    "create_one",
    "cut_logs",
    "database_now",
    "end_pause",
    "ended_by_hour",
    "expire",
    "expire_shards",
    "finish",
    "forget_starts",
    "heartbeat",
    "hold",
    "limits",
    "outlook",
    "pause_outlook",
    "plan",
    "probe",
    "reap",
    "seconds_until_due",
    "waits",
    "workers",
]
