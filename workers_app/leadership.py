"""Election: one holder a duty, on a lease by the database's clock."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Q

from tasks_app.ledger import database_now
from workers_app.models import Leadership


def lead(duty: str, holder: str) -> bool:
    """Take or renew a duty for LEASE_SECONDS; False while another holds it."""
    now = database_now()
    expires_at = now + timedelta(seconds=settings.LEASE_SECONDS)
    mine_or_free = Q(holder=holder) | Q(expires_at__lt=now)
    taken = (
        Leadership.objects.filter(duty=duty)
        .filter(mine_or_free)
        .update(holder=holder, expires_at=expires_at)
    )
    if taken or Leadership.objects.filter(duty=duty).exists():
        return bool(taken)
    try:
        with transaction.atomic():
            Leadership.objects.create(duty=duty, holder=holder, expires_at=expires_at)
    except IntegrityError:  # another was first
        return False
    return True
