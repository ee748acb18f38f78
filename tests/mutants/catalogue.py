"""The mutants: what each takes out, the promise that falls, and the tests to see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

LEDGER = "tests/tasks_app/ledger"
MACHINE = f"{LEDGER}/test_state_machine.py"


class MutantDoesNotFit(Exception):
    """The product has changed, and a mutant finds nothing to change."""


@dataclass(frozen=True, slots=True)
class Edit:
    """In a file, `old` becomes `new`; it must be there exactly once."""

    path: str
    old: str
    new: str

    def applied(self, source: str) -> str:
        """The source with the edit made.

        Raises:
            MutantDoesNotFit: what is to go is not there, or more than once.
        """
        if (found := source.count(self.old)) != 1:
            raise MutantDoesNotFit(
                f"{self.path} has {found} times, not once: {self.old!r}; change it"
                " in tests/mutants/catalogue.py"
            )
        return source.replace(self.old, self.new)


@dataclass(frozen=True, slots=True)
class Mutant:
    """`tests` are to fail with the edits; `database` is the one that they need."""

    name: str
    promise: str
    edits: Sequence[Edit]
    tests: Sequence[str]
    database: str = "sqlite"


def without(statement: str) -> Edit:
    """Take something out of each test database, where it is made."""
    made = "        names = setup_databases(verbosity=0, interactive=False)\n"
    then = f"        connection.cursor().execute({statement!r})\n"
    return Edit("tests/conftest.py", made, made + then)


FENCE = "WHERE id = v.run_id AND tasks_app_taskrun.attempt = v.attempt"
ATTEMPTS = "tasks_app/ledger/attempts.py"
ADMISSION = "tasks_app/ledger/admission.py"
CANCELLING = "tasks_app/ledger/cancelling.py"
PLANNING = "tasks_app/ledger/planning.py"
ELIGIBILITY = "tasks_app/ledger/eligibility.py"

NO_PLANNER_LOCKS = Edit(
    "tasks_app/ledger/due.py",
    " {sql.skip_locked_task}",
    "",
)

MUTANTS = [
    Mutant(
        "no attempt in finish's fence",
        "C5",
        [
            Edit(
                ATTEMPTS,
                f"{FENCE}\n        AND CASE tasks_app_taskrun.status",
                "WHERE id = v.run_id\n        AND CASE tasks_app_taskrun.status",
            )
        ],
        [f"{LEDGER}/test_attempts.py", MACHINE],
    ),
    Mutant(
        "no key for a fire, no planner's locks",
        "C1",
        [without("DROP INDEX first_run_unique_fire"), NO_PLANNER_LOCKS],
        [f"{LEDGER}/test_creating.py"],
        "postgres",
    ),
    Mutant(
        "the cursor moves whoever moved it",
        "C1",
        [Edit(PLANNING, " AND tasks_app_task.next_fire_at = v.was", "")],
        [f"{MACHINE}::test_a_planner_that_comes_late_leaves_the_cursor_alone"],
    ),
    Mutant(
        "no reaper",
        "C7",
        [
            Edit(
                "workers_app/beat.py",
                "if reaped := ledger.reap():",
                "if reaped := 0:",
            )
        ],
        ["tests/workers_app/test_beat.py"],
    ),
    Mutant(
        "a clock that jumped is trusted",
        "C13",
        [
            Edit(
                "workers_app/beat.py",
                "return tick >= self._trusted_from",
                "return True",
            )
        ],
        ["tests/workers_app/test_beat.py"],
    ),
    Mutant(
        "the bell rings before the commit",
        "C3",
        [
            Edit(
                "tasks_app/ledger/announcing.py",
                "transaction.on_commit(\n            lambda: runs_ready.send_robust("
                "sender=None, doorbells=doorbells)\n        )",
                "runs_ready.send_robust(sender=None, doorbells=doorbells)",
            )
        ],
        [f"{MACHINE}::test_no_bell_rings_before_the_run_is_there_to_be_claimed"],
    ),
    Mutant(
        "parents of a join take no turns",
        "C2",
        [
            Edit(
                "tasks_app/ledger/downstream.py",
                "{these(run_ids)} ORDER BY id DESC {sql.lock}",
                "{these(run_ids)} ORDER BY id DESC",
            )
        ],
        [f"{LEDGER}/test_downstream.py"],
        "postgres",
    ),
    Mutant(
        "claim takes what is not due",
        "C1",
        [Edit(ELIGIBILITY, '"due": f"due_at <= {now}"', '"due": "1 = 1"')],
        [f"{LEDGER}/test_attempts.py", MACHINE],
    ),
    Mutant(
        "claim takes what is held",
        "C10",
        [Edit(ELIGIBILITY, '"admitted": NOT_HELD', '"admitted": "1 = 1"')],
        [f"{LEDGER}/test_admission.py", MACHINE],
    ),
    Mutant(
        "two claims share a run",
        "C4",
        [
            Edit(
                ATTEMPTS,
                """WHERE id {sql.one_of("SELECT id FROM best")} AND {_STILL_QUEUED}""",
                """WHERE id {sql.one_of("SELECT id FROM best")}""",
            ),
            Edit(
                ATTEMPTS,
                "ORDER BY priority DESC, due_at, id LIMIT %s {sql.skip_locked}) AS l",
                "ORDER BY priority DESC, due_at, id LIMIT %s) AS l",
            ),
        ],
        [f"{LEDGER}/test_attempts.py"],
        "postgres",
    ),
    Mutant(
        "admission counts nobody in",
        "C10",
        [
            Edit(
                ADMISSION,
                'Limit("max_concurrency", _counted_in(task_id), concurrency)',
                'Limit("max_concurrency", 0, concurrency)',
            )
        ],
        [f"{LEDGER}/test_admission.py", MACHINE],
    ),
    Mutant(
        "admission without the task's lock",
        "C10",
        [Edit(ADMISSION, "lock = dialect().lock_task", 'lock = ""')],
        [
            f"{MACHINE}::test_of_triggers_at_the_same_time_no_more_are_let_in_than_"
            "may_run"
        ],
        "postgres",
    ),
    Mutant(
        "overlap is decided without the task's lock",
        "C10",
        [Edit("tasks_app/ledger/overlapping.py", "if sql.lock_task:", "if False:")],
        [f"{LEDGER}/test_admission.py"],
        "postgres",
    ),
    Mutant(
        "a new limit forgets those that run",
        "C10",
        [Edit(ADMISSION, "({QUEUED} OR status = 'running' AND", "({QUEUED} AND")],
        [f"{MACHINE}::test_a_new_limit_counts_the_runs_that_began_without_it"],
    ),
    Mutant(
        "a retry keeps its place",
        "C10",
        [
            Edit(
                ATTEMPTS,
                "THEN 'held' ELSE admission END,",
                "THEN 'admitted' ELSE admission END,",
            )
        ],
        [f"{LEDGER}/test_admission.py"],
    ),
    Mutant(
        "a heartbeat speaks for any attempt",
        "C6",
        [
            Edit(
                ATTEMPTS,
                f"{FENCE}\n        AND status",
                "WHERE id = v.run_id\n        AND status",
            )
        ],
        [f"{LEDGER}/test_attempts.py", MACHINE],
    ),
    Mutant(
        "cancel overwrites what has ended",
        "C2",
        [
            Edit(
                CANCELLING,
                "WHERE id IN (SELECT value FROM wanted)\n"
                "            AND status IN ('queued', 'running') {these(run_ids)}\n"
                "            UNION",
                "WHERE id IN (SELECT value FROM wanted) {these(run_ids)}\n"
                "            UNION",
            ),
            Edit(
                CANCELLING,
                "        AND status IN ('queued', 'running') {recent}\n"
                "        RETURNING {ENDED}",
                "        RETURNING {ENDED}",
            ),
            Edit(
                CANCELLING,
                "status = CASE status WHEN 'queued' THEN 'cancelled' ELSE status END",
                "status = CASE status WHEN 'running' THEN status ELSE 'cancelled' END",
            ),
            Edit(
                CANCELLING,
                "completed_at = CASE status WHEN 'queued' THEN {sql.now} END",
                "completed_at = CASE status WHEN 'running' THEN NULL"
                " ELSE {sql.now} END",
            ),
        ],
        [
            f"{LEDGER}/test_cancelling.py::"
            "test_a_run_that_completed_first_keeps_its_outcome"
        ],
    ),
    Mutant(
        "repeatable jobs go on without heartbeat",
        "C6",
        [
            Edit(
                "workers_app/runner.py",
                "        self._stop_unrenewed()\n        self.loop",
                "        self.loop",
            ),
            Edit(
                "executors/spawner.py",
                "if moment >= since + STOP_PART * self.lease_seconds:",
                "if False:",
            ),
        ],
        [
            "tests/faults/test_outages.py::test_a_database_away_for_over_a_lease_"
            "stops_only_what_may_be_repeated"
        ],
        "postgres",
    ),
    Mutant(
        "no key for a request",
        "C11",
        [
            without(
                "ALTER TABLE tasks_app_idempotencykey"
                " DROP CONSTRAINT idempotency_key_unique"
            )
        ],
        ["tests/tasks_app/api/test_idempotency.py"],
        "postgres",
    ),
    Mutant(
        "retention removes a workflow that goes on",
        "C2",
        [
            Edit(
                "tasks_app/ledger/retention.py",
                " and root_id not in held_roots",
                "",
            )
        ],
        [f"{LEDGER}/test_retention.py"],
    ),
    Mutant(
        "a fire's number is of the day on which it is planned",
        "C1",
        [
            Edit(
                "tasks_app/ledger/creating.py",
                "WHEN 'schedule' THEN scheduled_for END",
                "WHEN 'schedule' THEN n.at END",
            )
        ],
        [f"{LEDGER}/test_partitions.py"],
        "postgres",
    ),
]
