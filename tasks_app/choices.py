"""Every enumeration that is stored, once, with its label."""

from __future__ import annotations

from django.db.models import TextChoices
from django.utils.translation import gettext_lazy as _


class TaskStatus(TextChoices):
    ACTIVE = "active", _("Active")
    PAUSED = "paused", _("Paused")
    DELETED = "deleted", _("Deleted")


class RunStatus(TextChoices):
    """The states of a run; `tasks_app.rules.states` has the allowed moves."""

    QUEUED = "queued", _("Queued")
    RUNNING = "running", _("Running")
    SUCCEEDED = "succeeded", _("Succeeded")
    FAILED = "failed", _("Failed")
    TIMED_OUT = "timed_out", _("Timed out")
    CANCELLED = "cancelled", _("Cancelled")
    LOST = "lost", _("Lost")
    SKIPPED = "skipped", _("Skipped")
    EXPIRED = "expired", _("Expired")


class Trigger(TextChoices):
    """Why a run exists."""

    SCHEDULE = "schedule", _("Schedule")
    API = "api", _("API")
    ADMIN = "admin", _("Admin")
    DEPENDENCY = "dependency", _("Dependency")
    RERUN = "rerun", _("Rerun")


class EventKind(TextChoices):
    """What can happen to a run."""

    CREATED = "created", _("Created")
    STARTED = "started", _("Started")
    FINISHED = "finished", _("Finished")
    RETRIED = "retried", _("Will be retried")
    CANCEL_REQUESTED = "cancel_requested", _("Cancel requested")
    STALE_RESULT = "stale_result", _("Late result refused")


class Delivery(TextChoices):
    """What happens to a run whose worker died (docs/promises.md, C4)."""

    AT_MOST_ONCE = "at_most_once", _("At most once")
    AT_LEAST_ONCE = "at_least_once", _("At least once")


class Misfire(TextChoices):
    """Which of the fires missed while no beat lived are run."""

    LATEST = "latest", _("The latest")
    ALL = "all", _("All")
    NONE = "none", _("None")


class Backoff(TextChoices):
    EXPONENTIAL = "exponential", _("Exponential with full jitter")
    CONSTANT = "constant", _("Constant")


class Condition(TextChoices):
    """Which ending of a parent's run starts the child."""

    SUCCESS = "success", _("On success")
    FAILURE = "failure", _("On failure")
    DONE = "done", _("When done")
