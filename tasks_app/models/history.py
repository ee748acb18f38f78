"""What stays of runs when retention has removed them."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from tasks_app.choices import RunStatus
from tasks_app.models.task import Task
from tasks_app.rules.states import FAILURES


class RunTally(models.Model):
    """How many runs of a task reached a terminal state within an hour, and their times.

    Several rows of one hour, task and status add up: each end appends, and the upkeep
    folds them (`tasks_app.ledger.tallies`). Read sums, never rows. What is folded is in
    `HourTally` as well.
    """

    hour = models.DateTimeField(help_text="When it began, in UTC.")
    # Written for nearly every run: without a check of its own, as the run has one.
    task = models.ForeignKey(
        Task,
        models.PROTECT,
        db_constraint=False,
        db_index=False,  # tally_of_task serves
        related_name="tallies",
    )
    status = models.CharField(max_length=10, choices=RunStatus)
    runs = models.PositiveBigIntegerField()
    run_seconds = models.FloatField(
        help_text="From the start of the last attempt to the end, of all of them."
    )
    wait_seconds = models.FloatField(
        help_text="From when the last attempt was due to its start, of all of them."
    )
    is_folded = models.BooleanField(default=False, db_default=False)

    class Meta:
        indexes = [
            # Upkeep and dashboard: what has ended since the last fold?
            models.Index(fields=["is_folded", "hour"], name="tally_of_hour"),
            models.Index(fields=["task", "hour"], name="tally_of_task"),
            # Dashboard: which tasks failed lately?
            models.Index(
                fields=["hour"],
                condition=Q(status__in=FAILURES),
                name="tally_of_failures",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.runs} runs of task {self.task_id} {self.status} at {self.hour}"


class HourTally(models.Model):
    """How many runs, of all tasks, reached a terminal state within an hour, as far as
    they are folded: so that a day is summed without the rows of each task."""

    hour = models.DateTimeField(help_text="When it began, in UTC.")
    status = models.CharField(max_length=10, choices=RunStatus)
    runs = models.PositiveBigIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["hour", "status"], name="hour_tally_unique")
        ]

    def __str__(self) -> str:
        return f"{self.runs} runs {self.status} at {self.hour}"


class HistoryStart(models.Model):
    """The first day of which a task still has all its runs: retention has removed
    earlier ones. A task without a row has lost none."""

    task = models.OneToOneField(
        Task, models.CASCADE, primary_key=True, related_name="history_start"
    )
    day = models.DateField(help_text="In UTC.")

    def __str__(self) -> str:
        return f"task {self.task_id} from {self.day}"
