"""Dependencies: which task's end starts another."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from tasks_app.models.task import Task


class TaskDependency(models.Model):
    """An edge of the task graph: `child` runs after `parent`.

    The child's `trigger_rule` says which endings of its parents start it, among
    those that belong to the same root run (`tasks_app.rules.dependencies`).
    """

    parent = models.ForeignKey(Task, models.CASCADE, related_name="child_edges")
    child = models.ForeignKey(Task, models.CASCADE, related_name="parent_edges")

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
        return f"{self.parent_id} -> {self.child_id}"
