"""Idempotency keys: the same request, sent again, gets the same answer (C11)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet

from tasks_app.errors import IdempotencyKeyReused
from tasks_app.ledger import database_now
from tasks_app.models import IdempotencyKey


@dataclass(frozen=True, slots=True)
class KeyedRequest:
    """Who sent what where: the scope of a key, and the hash of the body."""

    principal: str
    path: str
    key: str
    body_hash: str


@transaction.atomic
def answer_once(
    request: KeyedRequest, work: Callable[[], dict[str, Any]]
) -> tuple[dict[str, Any], bool]:
    """Do `work` once for all requests of one key, and keep its answer (JSON).

    The key's row and the work commit together. A concurrent twin waits for them on
    the unique key; if the work fails, the key is free again.

    Returns:
        The answer, and whether it is an earlier one.

    Raises:
        IdempotencyKeyReused: the key came with another body before.
    """
    scope = {
        "principal": request.principal,
        "path": request.path,
        "key": request.key,
    }
    _expired().filter(**scope).delete()
    row, is_new = IdempotencyKey.objects.get_or_create(
        **scope, defaults={"body_hash": request.body_hash}
    )
    if row.body_hash != request.body_hash:
        raise IdempotencyKeyReused
    if not is_new:
        return row.response, True
    row.response = work()
    row.save(update_fields=["response"])
    return row.response, False


def keys_forget() -> int:
    """Delete the keys that have outlived IDEMPOTENCY_SECONDS; returns how many."""
    deleted, _by_model = _expired().delete()
    return deleted


def _expired() -> QuerySet[IdempotencyKey]:
    oldest = database_now() - timedelta(seconds=settings.IDEMPOTENCY_SECONDS)
    return IdempotencyKey.objects.filter(created_at__lt=oldest)
