"""Policies of tasks: limits, overlap, placement, blackouts, breakers, alerts."""

from importlib import import_module

import django.core.validators
import django.db.models.deletion
from django.db import migrations, models

final_states = import_module("tasks_app.migrations.0002_final_states")

RULES = {"success": "all_success", "failure": "all_failed", "done": "all_done"}


def conditions_to_rules(apps, schema_editor):
    """A child takes its edges' condition for its rule; of mixed ones, all_done."""
    edges = apps.get_model("tasks_app", "TaskDependency").objects.using(
        schema_editor.connection.alias
    )
    tasks = apps.get_model("tasks_app", "Task").objects.using(
        schema_editor.connection.alias
    )
    found = {}
    for child_id, condition in edges.values_list("child_id", "condition"):
        found.setdefault(child_id, set()).add(condition)
    for child_id, conditions in found.items():
        condition = conditions.pop() if len(conditions) == 1 else "done"
        tasks.filter(pk=child_id).update(trigger_rule=RULES[condition])


def rules_to_conditions(apps, schema_editor):
    tasks = apps.get_model("tasks_app", "Task").objects.using(
        schema_editor.connection.alias
    )
    edges = apps.get_model("tasks_app", "TaskDependency").objects.using(
        schema_editor.connection.alias
    )
    conditions = {rule: condition for condition, rule in RULES.items()}
    rules = tasks.filter(parent_edges__isnull=False).distinct()
    for task_id, rule in rules.values_list("pk", "trigger_rule"):
        edges.filter(child_id=task_id).update(condition=conditions.get(rule, "done"))


def keep_final_states(apps, schema_editor):
    """SQLite builds a changed table anew, and its trigger is gone with the old one."""
    if schema_editor.connection.vendor == "sqlite":
        schema_editor.execute("DROP TRIGGER IF EXISTS run_outcome_is_final")
        final_states.add_trigger(apps, schema_editor)


class Migration(migrations.Migration):
    dependencies = [
        ("django_celery_beat", "0019_alter_periodictasks_options"),
        ("tasks_app", "0002_final_states"),
        ("workers_app", "0002_draining"),
    ]

    operations = [
        migrations.CreateModel(
            name="Alert",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True,
                        primary_key=True,
                        serialize=False,
                        verbose_name="ID",
                    ),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("no_worker", "No online worker can take it"),
                            ("paused_itself", "Paused after failures in a row"),
                            ("poison", "Paused: its workers keep dying"),
                            ("breaker_open", "The target's circuit breaker is open"),
                        ],
                        max_length=20,
                    ),
                ),
                (
                    "subject",
                    models.CharField(
                        help_text="What it is about: `task:<id>`, or a target.",
                        max_length=300,
                    ),
                ),
                ("message", models.TextField()),
                ("raised_at", models.DateTimeField()),
                ("resolved_at", models.DateTimeField(null=True)),
            ],
            options={
                "ordering": ["-id"],
            },
        ),
        migrations.CreateModel(
            name="Breaker",
            fields=[
                (
                    "target",
                    models.CharField(max_length=300, primary_key=True, serialize=False),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("closed", "Closed"),
                            ("open", "Open"),
                            ("half_open", "Half open: one probe runs"),
                        ],
                        default="closed",
                        max_length=10,
                    ),
                ),
                (
                    "failures",
                    models.PositiveIntegerField(default=0, help_text="In a row."),
                ),
                ("opened_at", models.DateTimeField(null=True)),
                ("probe_run_id", models.BigIntegerField(null=True)),
            ],
            options={
                "ordering": ["target"],
            },
        ),
        migrations.CreateModel(
            name="Calendar",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True,
                        primary_key=True,
                        serialize=False,
                        verbose_name="ID",
                    ),
                ),
                ("name", models.SlugField(max_length=100, unique=True)),
                ("description", models.TextField(blank=True)),
                ("timezone", models.CharField(default="UTC", max_length=64)),
                (
                    "action",
                    models.CharField(
                        choices=[("skip", "Skip"), ("postpone", "Postpone to the end")],
                        default="skip",
                        max_length=10,
                    ),
                ),
                ("windows", models.JSONField(default=list)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("updated_at", models.DateTimeField(auto_now=True)),
            ],
            options={
                "ordering": ["name"],
            },
        ),
        migrations.CreateModel(
            name="Queue",
            fields=[
                (
                    "name",
                    models.CharField(max_length=100, primary_key=True, serialize=False),
                ),
                ("description", models.TextField(blank=True)),
                (
                    "max_concurrency",
                    models.PositiveIntegerField(
                        blank=True,
                        help_text="Runs of this queue that run at a time, on all workers together.",
                        null=True,
                        validators=[django.core.validators.MinValueValidator(1)],
                    ),
                ),
            ],
            options={
                "ordering": ["name"],
            },
        ),
        migrations.CreateModel(
            name="RateStart",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True,
                        primary_key=True,
                        serialize=False,
                        verbose_name="ID",
                    ),
                ),
                ("scope", models.CharField(max_length=40)),
                ("at", models.DateTimeField()),
            ],
        ),
        migrations.RemoveConstraint(
            model_name="taskrun",
            name="run_unique_fire",
        ),
        migrations.RemoveConstraint(
            model_name="taskrun",
            name="run_unique_in_workflow",
        ),
        migrations.RemoveIndex(
            model_name="taskrun",
            name="run_to_publish",
        ),
        migrations.RemoveField(
            model_name="taskrun",
            name="next_publish_at",
        ),
        migrations.RemoveField(
            model_name="taskrun",
            name="publish_count",
        ),
        migrations.RemoveField(
            model_name="taskrun",
            name="published_at",
        ),
        migrations.AddField(
            model_name="project",
            name="rate_limit_runs",
            field=models.PositiveIntegerField(
                blank=True,
                help_text="At most so many runs of all its tasks start within the span below.",
                null=True,
                validators=[django.core.validators.MinValueValidator(1)],
            ),
        ),
        migrations.AddField(
            model_name="project",
            name="rate_limit_seconds",
            field=models.PositiveIntegerField(
                default=60, validators=[django.core.validators.MinValueValidator(1)]
            ),
        ),
        migrations.AddField(
            model_name="task",
            name="jitter_seconds",
            field=models.PositiveIntegerField(
                default=0,
                help_text="Each fire starts up to so much later, by a fixed draw per fire.",
                validators=[django.core.validators.MaxValueValidator(86400)],
            ),
        ),
        migrations.AddField(
            model_name="task",
            name="match",
            field=models.CharField(
                blank=True,
                help_text="Tags that a worker must have, as in: gpu and not (eu or spot).",
                max_length=500,
            ),
        ),
        migrations.AddField(
            model_name="task",
            name="max_concurrency",
            field=models.PositiveIntegerField(
                blank=True,
                help_text="Runs of the task that run at a time. Empty: no limit, or 1 where overlap is not allow.",
                null=True,
                validators=[django.core.validators.MinValueValidator(1)],
            ),
        ),
        migrations.AddField(
            model_name="task",
            name="max_queued",
            field=models.PositiveIntegerField(
                blank=True,
                help_text="Runs of the task that may wait. Empty: MAX_QUEUED_RUNS.",
                null=True,
                validators=[django.core.validators.MinValueValidator(1)],
            ),
        ),
        migrations.AddField(
            model_name="task",
            name="overlap",
            field=models.CharField(
                choices=[
                    ("allow", "Allow: no limit"),
                    ("skip", "Skip the new one"),
                    ("queue", "Let the new one wait"),
                    ("replace", "Cancel the oldest for the new one"),
                ],
                default="allow",
                max_length=10,
            ),
        ),
        migrations.AddField(
            model_name="task",
            name="pause_after_failures",
            field=models.PositiveSmallIntegerField(
                blank=True,
                help_text="Pauses itself after so many failed runs in a row.",
                null=True,
                validators=[django.core.validators.MinValueValidator(1)],
            ),
        ),
        migrations.AddField(
            model_name="task",
            name="placement",
            field=models.CharField(
                choices=[
                    ("any", "Any, the first that is free"),
                    ("least_loaded", "The least loaded"),
                    ("same_worker", "The same as last time"),
                    ("worker", "The named one only"),
                    ("broadcast", "Each online worker"),
                ],
                default="any",
                max_length=15,
            ),
        ),
        migrations.AddField(
            model_name="task",
            name="priority",
            field=models.PositiveSmallIntegerField(
                default=5,
                help_text="0 to 9; of the runs that wait, the highest starts first.",
                validators=[django.core.validators.MaxValueValidator(9)],
            ),
        ),
        migrations.AddField(
            model_name="task",
            name="rate_limit_runs",
            field=models.PositiveIntegerField(
                blank=True,
                help_text="At most so many runs start within the span below.",
                null=True,
                validators=[django.core.validators.MinValueValidator(1)],
            ),
        ),
        migrations.AddField(
            model_name="task",
            name="rate_limit_seconds",
            field=models.PositiveIntegerField(
                default=60,
                validators=[
                    django.core.validators.MinValueValidator(1),
                    django.core.validators.MaxValueValidator(86400),
                ],
            ),
        ),
        migrations.AddField(
            model_name="task",
            name="status_reason",
            field=models.CharField(
                blank=True,
                help_text="Why it was paused, if not by a person.",
                max_length=500,
            ),
        ),
        migrations.AddField(
            model_name="task",
            name="target",
            field=models.CharField(
                blank=True,
                editable=False,
                help_text="The host and port that an HTTP task calls.",
                max_length=300,
            ),
        ),
        migrations.AddField(
            model_name="task",
            name="trigger_rule",
            field=models.CharField(
                choices=[
                    ("all_success", "All succeeded"),
                    ("any_success", "One succeeded"),
                    ("all_done", "All ended"),
                    ("all_failed", "All failed"),
                ],
                default="all_success",
                max_length=15,
            ),
        ),
        migrations.RunPython(conditions_to_rules, rules_to_conditions),
        migrations.RemoveField(
            model_name="taskdependency",
            name="condition",
        ),
        migrations.AddField(
            model_name="task",
            name="worker_name",
            field=models.CharField(blank=True, max_length=200),
        ),
        migrations.AddField(
            model_name="taskrun",
            name="admission",
            field=models.CharField(
                choices=[
                    ("free", "No limit applies"),
                    ("held", "Waits for room"),
                    ("admitted", "Counted in"),
                ],
                default="free",
                max_length=10,
            ),
        ),
        migrations.AddField(
            model_name="taskrun",
            name="lane",
            field=models.CharField(blank=True, max_length=500),
        ),
        migrations.AddField(
            model_name="taskrun",
            name="priority",
            field=models.PositiveSmallIntegerField(default=5),
        ),
        migrations.AddField(
            model_name="taskrun",
            name="shard_index",
            field=models.PositiveIntegerField(default=0),
        ),
        migrations.AddField(
            model_name="taskrun",
            name="shard_total",
            field=models.PositiveIntegerField(default=1),
        ),
        migrations.AddField(
            model_name="taskrun",
            name="target",
            field=models.CharField(blank=True, max_length=300),
        ),
        migrations.AddField(
            model_name="taskrun",
            name="wanted_until",
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name="taskrun",
            name="wanted_worker_id",
            field=models.BigIntegerField(
                help_text="The worker that should have it, until `wanted_until`.",
                null=True,
            ),
        ),
        migrations.AlterField(
            model_name="taskrun",
            name="trigger",
            field=models.CharField(
                choices=[
                    ("schedule", "Schedule"),
                    ("api", "API"),
                    ("admin", "Admin"),
                    ("dependency", "Dependency"),
                    ("rerun", "Rerun"),
                    ("backfill", "Backfill"),
                ],
                max_length=12,
            ),
        ),
        migrations.AddIndex(
            model_name="taskrun",
            index=models.Index(
                condition=models.Q(
                    ("status", "queued"), models.Q(("admission", "held"), _negated=True)
                ),
                fields=["queue", "lane", "-priority", "due_at", "id"],
                name="run_to_claim",
            ),
        ),
        migrations.AddIndex(
            model_name="taskrun",
            index=models.Index(
                condition=models.Q(("status", "queued")),
                fields=["task"],
                name="run_queued_of_task",
            ),
        ),
        migrations.AddIndex(
            model_name="taskrun",
            index=models.Index(
                condition=models.Q(("status", "queued"), ("admission", "held")),
                fields=["task", "-priority", "due_at", "id"],
                name="run_held_of_task",
            ),
        ),
        migrations.AddIndex(
            model_name="taskrun",
            index=models.Index(
                condition=models.Q(
                    ("admission", "admitted"), ("status__in", ["queued", "running"])
                ),
                fields=["task"],
                name="run_admitted_of_task",
            ),
        ),
        migrations.AddIndex(
            model_name="taskrun",
            index=models.Index(
                condition=models.Q(
                    ("status", "queued"), models.Q(("target", ""), _negated=True)
                ),
                fields=["target"],
                name="run_queued_for_target",
            ),
        ),
        migrations.AddIndex(
            model_name="taskrun",
            index=models.Index(
                condition=models.Q(
                    ("status", "queued"), models.Q(("lane", ""), _negated=True)
                ),
                fields=["lane"],
                name="run_queued_in_lane",
            ),
        ),
        migrations.AddConstraint(
            model_name="taskrun",
            constraint=models.UniqueConstraint(
                condition=models.Q(("trigger", "schedule")),
                fields=("task", "scheduled_for", "shard_index"),
                name="run_unique_fire",
            ),
        ),
        migrations.AddConstraint(
            model_name="taskrun",
            constraint=models.UniqueConstraint(
                condition=models.Q(("trigger", "dependency")),
                fields=("root", "task", "shard_index"),
                name="run_unique_in_workflow",
            ),
        ),
        migrations.AddField(
            model_name="alert",
            name="task",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="alerts",
                to="tasks_app.task",
            ),
        ),
        migrations.AddField(
            model_name="project",
            name="calendars",
            field=models.ManyToManyField(
                blank=True,
                help_text="Blackouts of its tasks.",
                related_name="projects",
                to="tasks_app.calendar",
            ),
        ),
        migrations.AddField(
            model_name="task",
            name="calendars",
            field=models.ManyToManyField(
                blank=True,
                help_text="Blackouts.",
                related_name="tasks",
                to="tasks_app.calendar",
            ),
        ),
        migrations.AddConstraint(
            model_name="task",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("overlap", "allow"), _negated=True),
                    ("max_concurrency__isnull", True),
                    _connector="OR",
                ),
                name="task_overlap_allow_has_no_limit",
            ),
        ),
        migrations.AddIndex(
            model_name="ratestart",
            index=models.Index(fields=["scope", "at"], name="rate_start_in_span"),
        ),
        migrations.AddConstraint(
            model_name="alert",
            constraint=models.UniqueConstraint(
                condition=models.Q(("resolved_at__isnull", True)),
                fields=("kind", "subject"),
                name="alert_open_once",
            ),
        ),
        migrations.AlterField(
            model_name="taskrun",
            name="trigger_reason",
            field=models.CharField(
                blank=True,
                help_text="Why a person asked for it, in their words; or why it was postponed.",
                max_length=500,
            ),
        ),
        migrations.AlterField(
            model_name="taskversion",
            name="created_at",
            field=models.DateTimeField(help_text="By the database's clock."),
        ),
        migrations.AddIndex(
            model_name="taskrun",
            index=models.Index(
                condition=models.Q(
                    ("status", "queued"), ("wanted_worker_id__isnull", False)
                ),
                fields=["wanted_until"],
                name="run_wished",
            ),
        ),
        migrations.RunPython(keep_final_states, keep_final_states),
    ]
