"""Projects: every task belongs to one, and rights are given by project."""

from __future__ import annotations

from django.db import models

DEFAULT_PROJECT = "default"


class Project(models.Model):
    """A group of tasks with common owners. The project `default` always exists."""

    name = models.SlugField(max_length=100, unique=True)
    description = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name
