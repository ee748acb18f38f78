"""The pages of the fleet: who works, on what, and whether anyone waits in vain."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.db.models import Count, Min, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from tasks_app.admin.base import Screen, actor, demand, done, refused
from tasks_app.choices import RunStatus
from tasks_app.errors import DomainError
from tasks_app.models import TaskRun
from workers_app.draining import with_runs_held, worker_drain
from workers_app.models import WorkerInfo, WorkerStatus

RUNS_SHOWN = 100


@admin.register(WorkerInfo)
class WorkerScreen(Screen):
    read = "worker.read"

    def pages(self) -> list[URLPattern]:
        at = self.address
        return [
            at("", self.list_view, "changelist", "GET"),
            at("<int:worker_id>/", self.page_view, "change", "GET"),
            at("<int:worker_id>/drain/", self.drain_view, "drain", "GET", "POST"),
            at("<int:worker_id>/undrain/", self.undrain_view, "undrain", "POST"),
        ]

    def list_view(self, request: HttpRequest) -> HttpResponse:
        demand(request, "worker.read")
        now = timezone.now()
        found = with_runs_held(WorkerInfo.objects.all())
        workers = [WorkerRow(worker, now) for worker in found]
        workers.sort(key=lambda row: (not row.is_alive, row.worker.name))
        context = {
            "title": _("Workers"),
            "workers": workers,
            "queues": queue_rows([row.worker for row in workers if row.is_alive]),
            "is_busy": any(row.worker.current_tasks for row in workers),
        }
        return self.page(request, "gnomon/worker_list.html", context)

    def page_view(self, request: HttpRequest, worker_id: int) -> HttpResponse:
        demand(request, "worker.read")
        (worker,) = with_runs_held([get_object_or_404(WorkerInfo, pk=worker_id)])
        running = _runs().filter(worker=worker, status=RunStatus.RUNNING)
        context: dict[str, Any] = {
            "title": worker.name,
            "row": WorkerRow(worker, timezone.now()),
            "runs": running.order_by("pk")[:RUNS_SHOWN],
            "is_busy": True,
        }
        return self.page(request, "gnomon/worker_page.html", context)

    def drain_view(self, request: HttpRequest, worker_id: int) -> HttpResponse:
        demand(request, "worker.drain")
        (worker,) = with_runs_held([get_object_or_404(WorkerInfo, pk=worker_id)])
        if request.method == "POST":
            return self._drain(request, worker, is_draining=True)
        context = {
            "title": _("Drain worker “%s”?") % worker.name,
            "consequences": [
                _("It claims no more runs, from now on."),
                ngettext(
                    "It finishes the %d run that it has.",
                    "It finishes the %d runs that it has.",
                    worker.runs_held,
                )
                % worker.runs_held,
                _("What only it can take waits; others take the rest."),
            ],
            "button": _("Drain"),
            "back": worker_address(worker),
        }
        return self.page(request, "gnomon/confirm.html", context)

    def undrain_view(self, request: HttpRequest, worker_id: int) -> HttpResponse:
        demand(request, "worker.drain")
        worker = get_object_or_404(WorkerInfo, pk=worker_id)
        return self._drain(request, worker, is_draining=False)

    def _drain(
        self, request: HttpRequest, worker: WorkerInfo, *, is_draining: bool
    ) -> HttpResponse:
        to = worker_address(worker)
        try:
            worker_drain(worker=worker, actor=actor(request), is_draining=is_draining)
        except DomainError as error:
            return refused(request, error, to)
        said = (
            _("Worker “%s” drains.") if is_draining else _("Worker “%s” claims again.")
        )
        return done(request, to, said % worker.name)


def worker_address(worker: WorkerInfo) -> str:
    return reverse("admin:workers_app_workerinfo_change", args=[worker.pk])


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """A worker as the pages show it."""

    worker: WorkerInfo
    now: datetime

    @property
    def is_alive(self) -> bool:
        return self.worker.status != WorkerStatus.OFFLINE

    @property
    def is_silent(self) -> bool:
        """It claims to live, and has not been heard of for a lease."""
        lease = timedelta(seconds=settings.LEASE_SECONDS)
        return self.is_alive and self.now - self.worker.last_heartbeat > lease

    @property
    def is_draining(self) -> bool:
        return self.worker.shown_status == "draining"

    @property
    def percent_busy(self) -> int:
        return round(100 * self.worker.current_tasks / (self.worker.max_tasks or 1))


@dataclass(frozen=True, slots=True)
class QueueRow:
    """A queue: how many runs wait in it that might start, and who serves it."""

    name: str
    waiting: int
    oldest: datetime | None
    workers: int

    @property
    def is_unserved(self) -> bool:
        return self.waiting > 0 and self.workers == 0


def queue_rows(alive: list[WorkerInfo]) -> list[QueueRow]:
    """The queues that are served or waited in, the unserved ones first."""
    waiting = {
        row["queue"]: row
        for row in TaskRun.objects.filter(status=RunStatus.QUEUED)
        .values("queue")
        .order_by("queue")
        .annotate(
            due=Count("pk", filter=Q(due_at__lte=timezone.now())), oldest=Min("due_at")
        )
    }
    names = {queue for worker in alive for queue in worker.queues} | waiting.keys()
    rows = [
        QueueRow(
            name,
            waiting[name]["due"] if name in waiting else 0,
            waiting[name]["oldest"] if name in waiting else None,
            sum(name in worker.queues for worker in alive),
        )
        for name in names
    ]
    return sorted(rows, key=lambda row: (not row.is_unserved, row.name))


def _runs() -> Any:
    return TaskRun.objects.select_related("task").defer(
        "params", "result", "task__command", "task__payload", "task__description"
    )
