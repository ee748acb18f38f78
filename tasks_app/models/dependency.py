"""Dependencies: which task's end starts another."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from tasks_app.choices import Condition
from tasks_app.models.task import Task


class TaskDependency(models.Model):
    """An edge of the task graph: `child` runs after `parent`, on a condition.

    A child with several parents waits for all of them that belong to the same root
    run (`tasks_app.rules.dependencies`).
    """

    parent = models.ForeignKey(Task, models.CASCADE, related_name="child_edges")
    child = models.ForeignKey(Task, models.CASCADE, related_name="parent_edges")
    condition = models.CharField(
        max_length=10, choices=Condition, default=Condition.SUCCESS
    )

    class Meta:
        verbose_name_plural = "task dependencies"
        constraints = [
            models.UniqueConstraint(
                fields=["parent", "child"], name="dependency_unique"
            ),
            models.CheckConstraint(
                condition=~Q(parent=F("child")), name="dependency_not_on_itself"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.parent_id} -> {self.child_id} on {self.condition}"
