"""Idempotency keys: one POST, however often it is sent (C11)."""

from __future__ import annotations

from django.db import models


class IdempotencyKey(models.Model):
    """The answer already given to a request that carried an `Idempotency-Key`.

    Inserted in the transaction of the work it answers for, so the unique key makes
    a concurrent twin wait and then read this row. Follows
    draft-ietf-httpapi-idempotency-key-header.
    """

    principal = models.CharField(max_length=200)
    path = models.CharField(max_length=500)
    key = models.CharField(max_length=200)
    body_hash = models.CharField(max_length=64)
    response = models.JSONField(default=dict)
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["principal", "path", "key"], name="idempotency_key_unique"
            )
        ]

    def __str__(self) -> str:
        return f"{self.principal} {self.path} {self.key}"
