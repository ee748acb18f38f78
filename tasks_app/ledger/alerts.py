"""Alerts: raised once for each cause, and resolved when the cause is gone."""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from tasks_app.ledger.dialects import database_now, dialect, fetch
from tasks_app.models import Alert

log = structlog.get_logger()


def alert_raise(
    kind: str, subject: str, message: str, *, task_id: int | None = None
) -> bool:
    """Raise an alert; False if it stands already. `subject` is what it is about."""
    raised = fetch(
        f"""
        INSERT INTO tasks_app_alert (kind, subject, task_id, message, raised_at)
        VALUES (%s, %s, %s, %s, {dialect().now}) ON CONFLICT DO NOTHING RETURNING id
        """,
        kind,
        subject,
        task_id,
        message,
    )
    if raised:
        log.warning("alert.raised", kind=kind, subject=subject, message=message)
    return bool(raised)


def alert_resolve(kind: str, subjects: Iterable[str]) -> int:
    """Note that the cause of these alerts is gone; returns how many stood."""
    count = (
        Alert.objects.open()
        .filter(kind=kind, subject__in=list(subjects))
        .update(resolved_at=database_now())
    )
    if count:
        log.info("alert.resolved", kind=kind, alerts=count)
    return count
