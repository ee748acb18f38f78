"""Runs and what happened to them. Only `tasks_app.ledger` writes these tables."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from tasks_app.choices import Admission, EventKind, RunStatus, Trigger
from tasks_app.models.task import Task, TaskVersion
from tasks_app.rules.states import TERMINAL


class TaskRunQuerySet(models.QuerySet["TaskRun"]):
    def unfinished(self) -> TaskRunQuerySet:
        """Runs that are queued or running."""
        return self.filter(status__in=[RunStatus.QUEUED, RunStatus.RUNNING])


class TaskRun(models.Model):
    """One run of a task: a fire of its schedule, or a trigger by hand.

    `attempt` counts the starts and is the fencing token: every write of a worker
    names the attempt it speaks for. `due_at` is when the run, or its next attempt,
    may start. `lane` says who may claim it: empty for any worker of the queue,
    `worker:<name>` for that one alone, else the tags that a worker must match.
    """

    # Each index costs every run: the foreign keys that no query starts from have none.
    # Those to runs are not checked by the database: a month of history is dropped at
    # once (docs/history.md), and only the ledger writes them.
    task = models.ForeignKey(
        Task, models.PROTECT, related_name="runs", db_index=False
    )  # run_of_task serves
    version = models.ForeignKey(
        TaskVersion, models.PROTECT, related_name="+", db_index=False
    )
    trigger = models.CharField(max_length=12, choices=Trigger)
    triggered_by = models.CharField(max_length=200, blank=True)
    trigger_reason = models.CharField(
        max_length=500,
        blank=True,
        help_text="Why a person asked for it, in their words; or why it was postponed.",
    )
    scheduled_for = models.DateTimeField(help_text="The nominal time of the fire.")
    status = models.CharField(max_length=10, choices=RunStatus)
    reason = models.CharField(
        max_length=500, blank=True, help_text="Why it ended as it did, or was skipped."
    )
    queue = models.CharField(max_length=100)
    lane = models.CharField(max_length=500, blank=True)
    priority = models.PositiveSmallIntegerField(default=5)
    admission = models.CharField(
        max_length=10, choices=Admission, default=Admission.FREE
    )
    wanted_worker_id = models.BigIntegerField(
        null=True, help_text="The worker that should have it, until `wanted_until`."
    )
    wanted_until = models.DateTimeField(null=True)
    shard_index = models.PositiveIntegerField(default=0)
    shard_total = models.PositiveIntegerField(default=1)
    target = models.CharField(max_length=300, blank=True)
    params = models.JSONField(default=dict, blank=True)
    attempt = models.PositiveIntegerField(default=0)
    root = models.ForeignKey(
        "self",
        models.SET_NULL,
        null=True,
        db_constraint=False,
        db_index=False,  # run_in_workflow serves
        related_name="descendants",
        help_text="The run that began the workflow; empty on that run itself.",
    )
    parent = models.ForeignKey(
        "self",
        models.SET_NULL,
        null=True,
        db_constraint=False,
        db_index=False,
        related_name="children",
    )
    rerun_of = models.ForeignKey(
        "self",
        models.SET_NULL,
        null=True,
        db_constraint=False,
        db_index=False,
        related_name="reruns",
    )
    # By name, for tasks_app does not know workers_app; without a database
    # constraint, for workers come and go and history stays.
    worker = models.ForeignKey(
        "workers_app.WorkerInfo",
        models.DO_NOTHING,
        null=True,
        db_constraint=False,
        db_index=False,
        related_name="runs",
    )
    created_at = models.DateTimeField()
    due_at = models.DateTimeField()
    start_deadline_at = models.DateTimeField(null=True)
    lease_expires_at = models.DateTimeField(null=True)
    cancel_requested_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    completed_at = models.DateTimeField(null=True)
    exit_code = models.IntegerField(null=True)
    result = models.JSONField(null=True)
    error = models.TextField(blank=True)
    log_truncated = models.BooleanField(default=False)

    objects = TaskRunQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        permissions = [("cancel_taskrun", "Can cancel a run")]
        constraints = [
            # C1: a nominal time of a task is a key (for each worker of a broadcast).
            models.UniqueConstraint(
                fields=["task", "scheduled_for", "shard_index"],
                condition=Q(trigger=Trigger.SCHEDULE),
                name="run_unique_fire",
            ),
            # A task runs once under one root run, however many parents it has.
            models.UniqueConstraint(
                fields=["root", "task", "shard_index"],
                condition=Q(trigger=Trigger.DEPENDENCY),
                name="run_unique_in_workflow",
            ),
            models.CheckConstraint(
                condition=~Q(status=RunStatus.RUNNING)
                | Q(
                    attempt__gte=1,
                    lease_expires_at__isnull=False,
                    started_at__isnull=False,
                    worker__isnull=False,
                ),
                name="run_running_has_lease",
            ),
            models.CheckConstraint(
                condition=Q(status__in=sorted(TERMINAL), completed_at__isnull=False)
                | Q(
                    status__in=[RunStatus.QUEUED, RunStatus.RUNNING],
                    completed_at__isnull=True,
                ),
                name="run_terminal_has_completed_at",
            ),
        ]
        indexes = [
            # Claim: the best of the runs that this worker may start.
            models.Index(
                fields=["queue", "lane", "-priority", "due_at", "id"],
                condition=Q(status=RunStatus.QUEUED) & ~Q(admission=Admission.HELD),
                name="run_to_claim",
            ),
            # The cap on waiting runs, and overlap: what of this task is queued?
            models.Index(
                fields=["task"],
                condition=Q(status=RunStatus.QUEUED),
                name="run_queued_of_task",
            ),
            # Admission: the best of the runs of this task that wait for room.
            models.Index(
                fields=["task", "-priority", "due_at", "id"],
                condition=Q(status=RunStatus.QUEUED) & Q(admission=Admission.HELD),
                name="run_held_of_task",
            ),
            # Admission: what of this task is counted in?
            models.Index(
                fields=["task"],
                condition=Q(admission=Admission.ADMITTED)
                & Q(status__in=[RunStatus.QUEUED, RunStatus.RUNNING]),
                name="run_admitted_of_task",
            ),
            # Breakers: what waits for this target?
            models.Index(
                fields=["target"],
                condition=Q(status=RunStatus.QUEUED) & ~Q(target=""),
                name="run_queued_for_target",
            ),
            # Placement: which runs wait for a worker that should have them?
            models.Index(
                fields=["wanted_until"],
                condition=Q(status=RunStatus.QUEUED, wanted_worker_id__isnull=False),
                name="run_wished",
            ),
            # Placement: which lanes have runs waiting?
            models.Index(
                fields=["lane"],
                condition=Q(status=RunStatus.QUEUED) & ~Q(lane=""),
                name="run_queued_in_lane",
            ),
            # Reaper: whose lease has run out?
            models.Index(
                fields=["lease_expires_at"],
                condition=Q(status=RunStatus.RUNNING),
                name="run_lease",
            ),
            # Upkeep: which runs have missed their start deadline?
            models.Index(
                fields=["start_deadline_at"],
                condition=Q(status=RunStatus.QUEUED, start_deadline_at__isnull=False),
                name="run_start_deadline",
            ),
            # Lists: the runs of a workflow, and those that repeat a run. Most runs
            # are neither, and cost these indexes nothing.
            models.Index(
                fields=["root"],
                condition=Q(root__isnull=False),
                name="run_in_workflow",
            ),
            models.Index(
                fields=["rerun_of"],
                condition=Q(rerun_of__isnull=False),
                name="run_rerun_of",
            ),
            # Lists: the runs of a task, and the runs in a state, newest first.
            models.Index(fields=["task", "-id"], name="run_of_task"),
            models.Index(fields=["status", "-id"], name="run_in_status"),
        ]

    def __str__(self) -> str:
        return f"run {self.pk}"

    @property
    def is_terminal(self) -> bool:
        return self.status in TERMINAL


class RunEvent(models.Model):
    """One thing that happened to a run. Append-only."""

    run = models.ForeignKey(
        TaskRun, models.CASCADE, db_constraint=False, related_name="events"
    )
    at = models.DateTimeField()
    kind = models.CharField(max_length=20, choices=EventKind)
    attempt = models.PositiveIntegerField()
    status = models.CharField(
        max_length=10, choices=RunStatus, help_text="The run's status after the event."
    )
    actor = models.CharField(max_length=200, blank=True)
    detail = models.JSONField(null=True)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"run {self.run_id}: {self.kind}"


class RunLog(models.Model):
    """A chunk of an attempt's output, at most 64 KiB or what came within a second."""

    run = models.ForeignKey(
        TaskRun,
        models.CASCADE,
        db_constraint=False,
        db_index=False,  # log_chunk_unique serves
        related_name="logs",
    )
    attempt = models.PositiveIntegerField()
    seq = models.PositiveIntegerField()
    at = models.DateTimeField()
    stream = models.CharField(max_length=6)
    text = models.TextField()

    class Meta:
        ordering = ["run", "attempt", "seq"]
        constraints = [
            models.UniqueConstraint(
                fields=["run", "attempt", "seq"], name="log_chunk_unique"
            )
        ]

    def __str__(self) -> str:
        return f"run {self.run_id} attempt {self.attempt} chunk {self.seq}"
