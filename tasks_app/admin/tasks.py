"""The pages and buttons of tasks."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, ngettext_lazy

from tasks_app.admin.backfill import BackfillEditor, backfill_page
from tasks_app.admin.base import Screen, actor, demand, done, next_address, refused
from tasks_app.admin.fire_question import FireQuestion
from tasks_app.admin.parent_forms import task_names
from tasks_app.admin.policy_form import LIMITS, SPREAD, WHERE
from tasks_app.admin.schedule_form import current_preview, preview
from tasks_app.admin.task_form import HOW, WHAT, TaskEditor
from tasks_app.admin.task_list import task_list
from tasks_app.admin.task_page import task_page
from tasks_app.choices import Trigger
from tasks_app.errors import DomainError, InvalidInput
from tasks_app.ledger import PauseOutlook
from tasks_app.models import Task
from tasks_app.policy import may
from tasks_app.rules.zones import timezone_names
from tasks_app.services.runs import run_trigger
from tasks_app.services.tasks import (
    task_delete,
    task_pause,
    task_resume,
    task_resume_preview,
)

BULK: dict[str, dict[str, Any]] = {
    "run": {
        "action": "run.trigger",
        "question": ngettext_lazy("Run %d task now?", "Run %d tasks now?"),
        "consequence": gettext_lazy("Each of them gets a run, paused or not."),
        "done": ngettext_lazy("%d run queued.", "%d runs queued."),
    },
    "pause": {
        "action": "task.edit",
        "question": ngettext_lazy("Pause %d task?", "Pause %d tasks?"),
        "consequence": gettext_lazy(
            "Their schedules stop. Runs that are queued or running go on."
        ),
        "done": ngettext_lazy("%d task paused.", "%d tasks paused."),
    },
    "resume": {
        "action": "task.edit",
        "question": ngettext_lazy("Resume %d task?", "Resume %d tasks?"),
        "consequence": gettext_lazy(
            "Their schedules start again. The policy of each for missed fires decides"
            " about what came due meanwhile."
        ),
        "done": ngettext_lazy("%d task resumed.", "%d tasks resumed."),
    },
}


@admin.register(Task)
class TaskScreen(Screen):
    read = "task.read"

    def has_add_permission(self, request: HttpRequest) -> bool:
        return may(request.user, "task.create")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        del obj
        return may(request.user, "task.edit")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        del obj
        return may(request.user, "task.delete")

    def pages(self) -> list[URLPattern]:
        at, both = self.address, ("GET", "POST")
        return [
            at("", self.list_view, "changelist", "GET"),
            at("add/", self.new_view, "add", *both),
            at("preview/", self.preview_view, "preview", "GET"),
            at("bulk/", self.bulk_view, "bulk", "POST"),
            at("<int:task_id>/", self.page_view, "page", "GET"),
            at("<int:task_id>/change/", self.edit_view, "change", *both),
            at("<int:task_id>/delete/", self.remove_view, "delete", *both),
            at("<int:task_id>/run/", self.run_view, "run", "POST"),
            at("<int:task_id>/pause/", self.pause_view, "pause", "POST"),
            at("<int:task_id>/resume/", self.resume_view, "resume", "POST"),
            at("<int:task_id>/backfill/", self.backfill_view, "backfill", *both),
        ]

    def list_view(self, request: HttpRequest) -> HttpResponse:
        demand(request, "task.read")
        return self.page(request, "gnomon/task_list.html", task_list(request.GET))

    def page_view(self, request: HttpRequest, task_id: int) -> HttpResponse:
        demand(request, "task.read")
        task = existing_task(task_id)
        question = FireQuestion(task, request.GET)
        asked = {"question": question, "fire_why": question.answer()}
        page = {**task_page(task), **asked}
        return self.page(request, "gnomon/task_page.html", page)

    def preview_view(self, request: HttpRequest) -> HttpResponse:
        """What the schedule in the query string means, as a piece of a page."""
        demand(request, "task.read")
        return TemplateResponse(
            request, "gnomon/preview.html", {"preview": preview(request.GET)}
        )

    def new_view(self, request: HttpRequest) -> HttpResponse:
        demand(request, "task.create")
        return self._edit(request, None)

    def edit_view(self, request: HttpRequest, task_id: int) -> HttpResponse:
        demand(request, "task.edit")
        return self._edit(request, existing_task(task_id))

    def _edit(self, request: HttpRequest, task: Task | None) -> HttpResponse:
        is_sent = request.method == "POST"
        editor = TaskEditor(task, request.POST if is_sent else None)
        if is_sent and (saved := editor.save(request.user)):  # type: ignore[arg-type]
            messages.success(request, _("Task “%s” saved.") % saved.name)
            return HttpResponseRedirect(page_address(saved))
        context = {
            "title": _("Edit task") if task else _("New task"),
            "task": task,
            "form": editor.form,
            "parents": editor.parents,
            "what": editor.form.fields_of(WHAT),
            "how": editor.form.fields_of(HOW),
            "limits": editor.form.section(LIMITS),
            "where": editor.form.section(WHERE),
            "spread": editor.form.section(SPREAD),
            "preview": current_preview(task) if task else None,
            "zones": sorted(timezone_names()),
            "task_names": task_names(),
        }
        return self.page(request, "gnomon/task_form.html", context)

    def remove_view(self, request: HttpRequest, task_id: int) -> HttpResponse:
        demand(request, "task.delete")
        task = existing_task(task_id)
        if request.method == "POST":
            task_delete(task_id=task.pk, actor=actor(request))
            to = reverse("admin:tasks_app_task_changelist")
            return done(request, to, _("Task “%s” deleted.") % task.name)
        context = {
            "title": _("Delete task “%s”?") % task.name,
            "consequences": [
                _("Its schedule ends, and its queued runs are cancelled."),
                _("Runs in progress go on. The history stays."),
            ],
            "button": _("Delete"),
            "back": page_address(task),
        }
        return self.page(request, "gnomon/confirm.html", context)

    def run_view(self, request: HttpRequest, task_id: int) -> HttpResponse:
        demand(request, "run.trigger")
        task = existing_task(task_id)
        try:
            run = run_trigger(
                task=task,
                actor=actor(request),
                params=_params(request.POST.get("params", "")),
                reason=request.POST.get("reason", "")[:500].replace("\0", ""),
                trigger=Trigger.ADMIN,
            )
        except DomainError as error:
            return refused(request, error, page_address(task))
        to = reverse("admin:tasks_app_taskrun_change", args=[run.pk])
        return done(request, to, _("Run %d queued.") % run.pk)

    def pause_view(self, request: HttpRequest, task_id: int) -> HttpResponse:
        demand(request, "task.edit")
        task = task_pause(task_id=existing_task(task_id).pk)
        return done(request, page_address(task), _("Task “%s” paused.") % task.name)

    def resume_view(self, request: HttpRequest, task_id: int) -> HttpResponse:
        """Where fires were missed, the first POST asks; the second, `confirmed`, acts
        and tells what became of them, should more have come due in between."""
        demand(request, "task.edit")
        task = existing_task(task_id)
        to = page_address(task)
        outlook = task_resume_preview(task_id=task.pk)
        if outlook.missed and not request.POST.get("confirmed"):
            back = next_address(request, to)
            context = {
                "title": _("Resume task “%s”?") % task.name,
                "consequences": [missed_text(outlook)],
                "hidden": [("confirmed", "1"), ("next", back)],
                "button": _("Resume"),
                "back": back,
            }
            return self.page(request, "gnomon/confirm.html", context)
        outlook = task_resume(task_id=task.pk).outlook
        said = _("Task “%s” resumed.") % task.name
        if outlook.missed:
            said = f"{said} {missed_text(outlook)}"
        return done(request, to, said)

    def backfill_view(self, request: HttpRequest, task_id: int) -> HttpResponse:
        """The query string is what a preview asks; a POST creates it."""
        demand(request, "run.backfill")
        task, is_sent = existing_task(task_id), request.method == "POST"
        editor = BackfillEditor(task, request.POST if is_sent else request.GET)
        if is_sent and (made := editor.create(actor(request))):
            runs = reverse("admin:tasks_app_taskrun_changelist")
            said = ngettext("%d run queued.", "%d runs queued.", len(made.run_ids))
            to = f"{runs}?task={task.pk}&trigger={Trigger.BACKFILL}"
            return done(request, to, said % len(made.run_ids))
        found = None if is_sent else editor.preview()
        return self.page(request, "gnomon/backfill.html", backfill_page(editor, found))

    def bulk_view(self, request: HttpRequest) -> HttpResponse:
        """The first POST asks, naming the count; the second, `confirmed`, acts."""
        kind = request.POST.get("bulk", "")
        listing = reverse("admin:tasks_app_task_changelist")
        if kind not in BULK:
            return HttpResponse(status=400)
        plan = BULK[kind]
        demand(request, plan["action"])
        tasks = _chosen_tasks(request)
        if not tasks:
            messages.warning(request, _("No task is selected."))
            return HttpResponseRedirect(next_address(request, listing))
        if not request.POST.get("confirmed"):
            context = {
                "title": plan["question"] % len(tasks),
                "consequences": [plan["consequence"]],
                "names": [task.name for task in tasks],
                "hidden": [
                    ("bulk", kind),
                    ("confirmed", "1"),
                    ("next", next_address(request, listing)),
                    *(("task", task.pk) for task in tasks),
                ],
                "button": _("Yes"),
                "back": next_address(request, listing),
            }
            return self.page(request, "gnomon/confirm.html", context)
        refusals = _act_on(tasks, _bulk_action(kind, actor(request)))
        for refusal in refusals:
            messages.error(request, refusal)
        return done(request, listing, plan["done"] % (len(tasks) - len(refusals)))


def existing_task(task_id: int) -> Task:
    """A task that was not deleted, or 404."""
    tasks = Task.objects.existing().select_related(
        "project", "schedule__crontab", "schedule__interval", "schedule__clocked"
    )
    return get_object_or_404(tasks, pk=task_id)


def page_address(task: Task) -> str:
    return reverse("admin:tasks_app_task_page", args=[task.pk])


def _chosen_tasks(request: HttpRequest) -> list[Task]:
    ids = [pk for pk in request.POST.getlist("task") if re.fullmatch("[0-9]{1,18}", pk)]
    return list(Task.objects.existing().filter(pk__in=ids).order_by("name"))


def _bulk_action(kind: str, who: str) -> Callable[[Task], object]:
    match kind:
        case "run":
            return lambda task: run_trigger(task=task, actor=who, trigger=Trigger.ADMIN)
        case "pause":
            return lambda task: task_pause(task_id=task.pk)
    return lambda task: task_resume(task_id=task.pk)


def _act_on(tasks: list[Task], act: Callable[[Task], object]) -> list[str]:
    """Do it to each; why some would not have it."""
    refusals = []
    for task in tasks:
        try:
            act(task)
        except DomainError as error:
            refusals.append(f"{task.name}: {error}")
    return refusals


def missed_text(outlook: PauseOutlook) -> str:
    """What becomes of the fires of a pause, which were missed."""
    missed = ngettext(
        "%d fire was missed during the pause:",
        "%d fires were missed during the pause:",
        outlook.missed,
    )
    fates = _("%(run)d will run, %(skip)d will be skipped.")
    told = fates % {"run": outlook.will_run, "skip": outlook.will_skip}
    return f"{missed % outlook.missed} {told}"


def _params(text: str) -> dict[str, Any]:
    """The parameters of a run, as typed.

    Raises:
        InvalidInput: they are no JSON object.
    """
    if not text.strip():
        return {}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput.of("params", "invalid_json", "this is not JSON") from error
    if not isinstance(found, dict):
        message = 'give a JSON object, such as {"DAY": "2026-01-31"}'
        raise InvalidInput.of("params", "not_an_object", message)
    return found
