"""Which months of runs lie in the history database."""

from __future__ import annotations

from django.db import models


class ArchivedMonth(models.Model):
    """A partition of runs, events and logs that has moved to the history database.

    Its row is committed together with the removal of its runs from the readers of the
    default database, and `is_done` when what was left of them there is gone.
    """

    name = models.CharField(max_length=20, unique=True)
    first_id = models.BigIntegerField()
    end_id = models.BigIntegerField(help_text="The first number after its runs.")
    runs = models.BigIntegerField()
    archived_at = models.DateTimeField()
    is_done = models.BooleanField(default=False)

    class Meta:
        ordering = ["end_id"]

    def __str__(self) -> str:
        return self.name
