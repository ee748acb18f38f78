"""What stays of runs when retention has removed them."""

from __future__ import annotations

from django.db import models

from tasks_app.choices import RunStatus
from tasks_app.models.task import Task


class RunTally(models.Model):
    """How many runs of a task reached a terminal state within an hour, and their times.

    Several rows of one hour, task and status add up: each end appends, and the upkeep
    folds them (`tasks_app.ledger.tallies`). Read sums, never rows.
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

    class Meta:
        indexes = [
            models.Index(fields=["hour"], name="tally_of_hour"),
            models.Index(fields=["task", "hour"], name="tally_of_task"),
        ]

    def __str__(self) -> str:
        return f"{self.runs} runs of task {self.task_id} {self.status} at {self.hour}"


class HistoryStart(models.Model):
    """The first day of which a task still has all its runs: retention has removed
    earlier ones. A task without a row has lost none."""

    task = models.OneToOneField(
        Task, models.CASCADE, primary_key=True, related_name="history_start"
    )
    day = models.DateField(help_text="In UTC.")

    def __str__(self) -> str:
        return f"task {self.task_id} from {self.day}"
