"""The work that the platform has to do meanwhile: tasks, triggers and cancels."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from django.db import DatabaseError, InterfaceError, connection

from scheduler_project.chaos.traces import JOB, Rule
from tasks_app.choices import Backoff, Delivery, Overlap
from tasks_app.errors import RunAlreadyFinished
from tasks_app.models import Task, TaskRun
from tasks_app.services.runs import run_cancel, run_trigger
from tasks_app.services.schedules import ScheduleInput
from tasks_app.services.tasks import task_create, task_pause

TICKS_A_SECOND = 5
STEP_SECONDS = (0.1, 0.5)
"""Between two things that people do."""
CANCEL_SHARE = 0.3
ACTOR = "user:chaos"
T = TypeVar("T")
AWAY = (DatabaseError, InterfaceError)

REPEATABLE = {
    "delivery": Delivery.AT_LEAST_ONCE,
    "max_attempts": 10,
    "retry_backoff": Backoff.CONSTANT,
    "retry_initial_seconds": 1,
}
ONE_AT_A_TIME = {"overlap": Overlap.SKIP, "max_concurrency": 1}
TWO_AT_A_TIME = {"overlap": Overlap.QUEUE, "max_concurrency": 2}
NEWEST_ONLY = {"overlap": Overlap.REPLACE, "max_concurrency": 1}

TASKS: tuple[tuple[str, int | str, float, int, Mapping[str, Any]], ...] = (
    # name, seconds or cron, the job's seconds, attempts that fail, policies
    ("once-1", 1, 0.2, 0, {}),
    ("once-2", 1, 0.2, 0, {}),
    ("once-3", 2, 0.4, 0, {}),
    ("once-long-1", 2, 4, 0, {}),
    ("once-long-2", 2, 6, 0, {}),
    ("once-cron", "* * * * *", 2, 0, {}),
    ("repeat-1", 1, 0.2, 0, REPEATABLE),
    ("repeat-2", 2, 1, 1, REPEATABLE),
    ("repeat-long-1", 2, 4, 0, REPEATABLE),
    ("repeat-long-2", 3, 9, 0, {**REPEATABLE, "retry_initial_seconds": 0}),
    ("repeat-cron", "* * * * *", 2, 1, REPEATABLE),
    ("limit-skip", 1, 2, 0, {**REPEATABLE, **ONE_AT_A_TIME}),
    ("limit-queue", 1, 1, 0, {**REPEATABLE, **TWO_AT_A_TIME}),
    ("limit-replace", 2, 3, 0, {**REPEATABLE, **NEWEST_ONLY}),
    ("limit-once", 1, 1, 0, TWO_AT_A_TIME),
    ("by-hand", 0, 1, 0, REPEATABLE),
)


class Load:
    """Creates the tasks, and does at random what people do.

    `accepted` has the ids of the runs that triggers were answered with: none of them
    may be lost (C2).
    """

    def __init__(self, seed: int, folder: Path, queue: str) -> None:
        self.accepted: list[int] = []
        self._random = Random(seed + 1)  # noqa: S311 - as the faults
        self._folder = folder
        self._queue = queue
        self._tasks: list[Task] = []
        self._next_at = 0.0

    def create(self) -> None:
        """Define the tasks. They begin to fire a second later."""
        (self._folder / "job.sh").write_text(JOB)
        for name, schedule, seconds, fails, policies in TASKS:
            ticks = round(seconds * TICKS_A_SECOND)
            values = {
                "name": name,
                "executor": "shell",
                "command": f"exec /bin/sh {self._folder}/job.sh {ticks} {fails}",
                "queue": self._queue,
                **policies,
            }
            self._tasks.append(task_create(values=values, schedule=_schedule(schedule)))

    def rules(self) -> Mapping[str, Rule]:
        """What each task's jobs are held to. Where an at_most_once run is LOST, its
        job may go on: only repeatable ones are killed with their lease (C6), and held
        to a limit from inside."""
        return {
            name: Rule(
                is_at_most_once="delivery" not in policies,
                max_concurrency=policies.get("max_concurrency")
                if "delivery" in policies
                else None,
            )
            for name, _, _, _, policies in TASKS
        }

    def step(self) -> None:
        """Trigger or cancel, if it is time. A database that is away refuses."""
        if time.monotonic() < self._next_at:
            return
        self._next_at = time.monotonic() + self._random.uniform(*STEP_SECONDS)
        act = self._cancel if self._random.random() < CANCEL_SHARE else self._trigger
        choice = self._random.random()
        try:
            act(choice)
        except AWAY:
            connection.close()

    def _trigger(self, choice: float) -> None:
        task = self._tasks[int(choice * len(self._tasks))]
        self.accepted.append(run_trigger(task=task, actor=ACTOR).pk)

    def _cancel(self, choice: float) -> None:
        ids = list(TaskRun.objects.unfinished().order_by("id").values_list("id"))
        if ids:
            (run_id,) = ids[int(choice * len(ids))]
            with suppress(RunAlreadyFinished):  # it won the race
                run_cancel(run_id=run_id, actor=ACTOR)

    def pause(self) -> None:
        """Stop the schedules. The database must be back."""
        for task in self._tasks:
            task_pause(task_id=task.pk)


def _schedule(given: int | str) -> ScheduleInput | None:
    if isinstance(given, str):
        return ScheduleInput(cron=given)
    return ScheduleInput(interval_seconds=given) if given else None


def patient(act: Callable[[], T], seconds: float = 30.0) -> T:
    """Do something as soon as the database answers.

    Raises:
        DatabaseError, InterfaceError: it does not answer in time.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return act()
        except AWAY:
            connection.close()
            if time.monotonic() > deadline:
                raise
        time.sleep(0.1)


def unfinished() -> int:
    return TaskRun.objects.unfinished().count()
