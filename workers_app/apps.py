"""The app of workers, dispatch and transport."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from django.apps import AppConfig

if TYPE_CHECKING:
    from tasks_app.ledger import Doorbell


class WorkersAppConfig(AppConfig):
    name = "workers_app"
    verbose_name = "Workers"

    def ready(self) -> None:
        """Ring for runs as soon as tasks_app says that they are ready."""
        from tasks_app.signals import runs_ready  # noqa: PLC0415 - needs loaded apps

        runs_ready.connect(_ring, dispatch_uid="workers_app.ring")


def _ring(doorbells: Sequence[Doorbell], **_: Any) -> None:
    from workers_app.dispatch import ringer  # noqa: PLC0415 - needs loaded apps

    ringer.add(doorbells)
