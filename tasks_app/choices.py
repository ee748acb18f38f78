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
    BACKFILL = "backfill", _("Backfill")


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


class Overlap(TextChoices):
    """What happens to a run of a task that has as many runs as it may have."""

    ALLOW = "allow", _("Allow: no limit")
    SKIP = "skip", _("Skip the new one")
    QUEUE = "queue", _("Let the new one wait")
    REPLACE = "replace", _("Cancel the oldest for the new one")


class TriggerRule(TextChoices):
    """Which endings of its parents' runs start a child."""

    ALL_SUCCESS = "all_success", _("All succeeded")
    ANY_SUCCESS = "any_success", _("One succeeded")
    ALL_DONE = "all_done", _("All ended")
    ALL_FAILED = "all_failed", _("All failed")


class Placement(TextChoices):
    """Which of the workers that serve its queue runs a task."""

    ANY = "any", _("Any, the first that is free")
    LEAST_LOADED = "least_loaded", _("The least loaded")
    SAME_WORKER = "same_worker", _("The same as last time")
    WORKER = "worker", _("The named one only")
    BROADCAST = "broadcast", _("Each online worker")


class Admission(TextChoices):
    """Whether a queued run may be claimed, where a limit has a say in it."""

    FREE = "free", _("No limit applies")
    HELD = "held", _("Waits for room")
    ADMITTED = "admitted", _("Counted in")


class BlackoutAction(TextChoices):
    """What becomes of a fire within a blackout."""

    SKIP = "skip", _("Skip")
    POSTPONE = "postpone", _("Postpone to the end")


class BreakerState(TextChoices):
    """The states of a circuit breaker, by their usual names."""

    CLOSED = "closed", _("Closed")
    OPEN = "open", _("Open")
    HALF_OPEN = "half_open", _("Half open: one probe runs")


class AlertKind(TextChoices):
    """What an operator should know without having asked."""

    NO_WORKER = "no_worker", _("No online worker can take it")
    PAUSED_ITSELF = "paused_itself", _("Paused after failures in a row")
    POISON = "poison", _("Paused: its workers keep dying")
    BREAKER_OPEN = "breaker_open", _("The target's circuit breaker is open")
