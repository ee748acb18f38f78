"""The pages and buttons of runs. Runs are read here; only their ledger writes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from django.contrib import admin
from django.db.models import QuerySet
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    JsonResponse,
    StreamingHttpResponse,
)
from django.urls import URLPattern, reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from tasks_app.admin.base import Screen, actor, demand, done, refused
from tasks_app.admin.run_list import run_list
from tasks_app.admin.run_log import (
    chunk_values,
    chunks_after,
    parse_position,
    position_text,
)
from tasks_app.admin.run_page import run_page, state
from tasks_app.errors import DomainError
from tasks_app.ledger import CancelAnswer
from tasks_app.models import RunLog, TaskRun
from tasks_app.run_history import find
from tasks_app.services.runs import run_cancel, run_rerun, run_rerun_failed


@admin.register(TaskRun)
class RunScreen(Screen):
    read = "run.read"

    def pages(self) -> list[URLPattern]:
        at = self.address
        return [
            at("", self.list_view, "changelist", "GET"),
            at("<int:run_id>/", self.page_view, "change", "GET"),
            at("<int:run_id>/log/", self.log_view, "log", "GET"),
            at("<int:run_id>/log.txt", self.log_text_view, "log_text", "GET"),
            at("<int:run_id>/cancel/", self.cancel_view, "cancel", "GET", "POST"),
            at("<int:run_id>/rerun/", self.rerun_view, "rerun", "POST"),
        ]

    def list_view(self, request: HttpRequest) -> HttpResponse:
        demand(request, "run.read")
        return self.page(request, "gnomon/run_list.html", run_list(request.GET))

    def page_view(self, request: HttpRequest, run_id: int) -> HttpResponse:
        demand(request, "run.read")
        run = find_run(run_id)
        return self.page(request, "gnomon/run_page.html", run_page(run))

    def log_view(self, request: HttpRequest, run_id: int) -> HttpResponse:
        """What was written after `?after=<attempt>.<seq>`, and how the run is."""
        demand(request, "run.read")
        # The run first: output that comes between the two reads is not missed, as a
        # finished run is asked once more.
        run = find_run(run_id, TaskRun.objects.defer("params", "result"))
        after = parse_position(request.GET.get("after", ""))
        chunks = chunks_after(run, after)
        if chunks:
            after = (chunks[-1].attempt, chunks[-1].seq)
        answer = {
            "chunks": [chunk_values(chunk) for chunk in chunks],
            "after": position_text(after),
            "state": state(run),
            "is_finished": run.is_terminal and not chunks,
        }
        return JsonResponse(answer)

    def log_text_view(self, request: HttpRequest, run_id: int) -> HttpResponse:
        demand(request, "run.read")
        run = find_run(run_id, TaskRun.objects.only("pk"))
        logs = run.logs.order_by("attempt", "seq").values_list("text", flat=True)
        return StreamingHttpResponse(  # type: ignore[return-value] # stubs: no base
            _texts(logs),
            content_type="text/plain; charset=utf-8",
            headers={
                "Content-Disposition": f'attachment; filename="run-{run.pk}.log"',
                "X-Content-Type-Options": "nosniff",
            },
        )

    def cancel_view(self, request: HttpRequest, run_id: int) -> HttpResponse:
        demand(request, "run.cancel")
        run = find_run(run_id)
        to = run_address(run)
        if request.method == "POST":
            try:
                answers = run_cancel(run_id=run.pk, actor=actor(request))
            except DomainError as error:
                return refused(request, error, to)
            return done(request, to, cancel_text(answers))
        context = {
            "title": _("Cancel run %(id)d of “%(task)s”?")
            % {"id": run.pk, "task": run.task.name},
            "consequences": [
                _("A queued run is cancelled at once."),
                _("A running one is stopped: SIGTERM, and SIGKILL after the grace."),
                _("It is not retried."),
                *(
                    [_("Runs below it are cancelled too, and none is started.")]
                    if run.root_id is None
                    else []
                ),
            ],
            "button": _("Cancel the run"),
            "back": to,
        }
        return self.page(request, "gnomon/confirm.html", context)

    def rerun_view(self, request: HttpRequest, run_id: int) -> HttpResponse:
        demand(request, "run.trigger")
        run = find_run(run_id)
        try:
            is_whole = request.POST.get("from") != "failed"
            rerun = run_rerun if is_whole else run_rerun_failed
            new = rerun(run=run, actor=actor(request))
        except DomainError as error:
            return refused(request, error, run_address(run))
        said = _("Run %d queued: run %d again.") % (new.pk, new.rerun_of_id)
        return done(request, run_address(new), said)


def cancel_text(answers: Mapping[int, CancelAnswer]) -> str:
    """What became of the runs that were to be cancelled."""
    cancelled = [i for i, said in answers.items() if said is CancelAnswer.CANCELLED]
    asked = [i for i, said in answers.items() if said is CancelAnswer.REQUESTED]
    texts = []
    if cancelled:
        text = ngettext("Run %s cancelled.", "Runs %s cancelled.", len(cancelled))
        texts.append(text % ", ".join(map(str, sorted(cancelled))))
    if asked:
        text = ngettext(
            "Run %s is being cancelled by its worker.",
            "Runs %s are being cancelled by their workers.",
            len(asked),
        )
        texts.append(text % ", ".join(map(str, sorted(asked))))
    return " ".join(texts)


def find_run(run_id: int, runs: QuerySet[TaskRun] | None = None) -> TaskRun:
    """A run, with what its page reads unless `runs` gives less; or 404."""
    if runs is None:
        runs = TaskRun.objects.select_related("task__project", "version", "worker")
    run = find(run_id, runs)
    if run is None:
        raise Http404
    return run


def run_address(run: TaskRun) -> str:
    return reverse("admin:tasks_app_taskrun_change", args=[run.pk])


def _texts(texts: QuerySet[RunLog, str]) -> Iterator[str]:
    yield from texts.iterator(chunk_size=20)
