"""Roll-ups of runs, and how long runs are kept."""

import django.core.validators
import django.db.models.deletion
from django.db import migrations, models

TALLY = """
    INSERT INTO tasks_app_runtally
        (hour, task_id, status, runs, run_seconds, wait_seconds)
    SELECT {hour}, task_id, status, count(*), SUM({ran}), SUM({waited})
    FROM tasks_app_taskrun WHERE completed_at IS NOT NULL GROUP BY 1, 2, 3
    """
SECONDS = {
    "postgresql": "EXTRACT(EPOCH FROM {1} - {0})::double precision",
    "sqlite": "(julianday({1}) - julianday({0})) * 86400.0",
}
HOUR = {
    "postgresql": "date_trunc('hour', completed_at, 'UTC')",
    "sqlite": "substr(completed_at, 1, 13) || ':00:00'",
}


def count_runs(apps, schema_editor):
    """Roll up the runs that have ended before there were roll-ups."""
    vendor = schema_editor.connection.vendor

    def seconds(begin, end):
        span = SECONDS[vendor].format(begin, end)
        return f"CASE WHEN {end} > {begin} THEN {span} ELSE 0.0 END"

    schema_editor.execute(
        TALLY.format(
            hour=HOUR[vendor],
            ran=seconds("started_at", "completed_at"),
            waited=seconds("due_at", "started_at"),
        ),
        params=None,
    )


class Migration(migrations.Migration):
    dependencies = [
        ("tasks_app", "0004_partitions"),
    ]

    operations = [
        migrations.CreateModel(
            name="HistoryStart",
            fields=[
                (
                    "task",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="history_start",
                        serialize=False,
                        to="tasks_app.task",
                    ),
                ),
                ("day", models.DateField(help_text="In UTC.")),
            ],
        ),
        migrations.AddField(
            model_name="project",
            name="retention_days",
            field=models.PositiveIntegerField(
                blank=True,
                help_text="Days that runs are kept, unless their task says otherwise; 0: for ever. Empty: RETENTION_DAYS.",
                null=True,
                validators=[django.core.validators.MaxValueValidator(36500)],
            ),
        ),
        migrations.AddField(
            model_name="task",
            name="retention_days",
            field=models.PositiveIntegerField(
                blank=True,
                help_text="Days that its runs are kept; 0: for ever. Empty: its project's.",
                null=True,
                validators=[django.core.validators.MaxValueValidator(36500)],
            ),
        ),
        migrations.CreateModel(
            name="RunTally",
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
                ("hour", models.DateTimeField(help_text="When it began, in UTC.")),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("queued", "Queued"),
                            ("running", "Running"),
                            ("succeeded", "Succeeded"),
                            ("failed", "Failed"),
                            ("timed_out", "Timed out"),
                            ("cancelled", "Cancelled"),
                            ("lost", "Lost"),
                            ("skipped", "Skipped"),
                            ("expired", "Expired"),
                        ],
                        max_length=10,
                    ),
                ),
                ("runs", models.PositiveBigIntegerField()),
                (
                    "run_seconds",
                    models.FloatField(
                        help_text="From the start of the last attempt to the end, of all of them."
                    ),
                ),
                (
                    "wait_seconds",
                    models.FloatField(
                        help_text="From when the last attempt was due to its start, of all of them."
                    ),
                ),
                (
                    "task",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="tallies",
                        to="tasks_app.task",
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(fields=["hour"], name="tally_of_hour"),
                    models.Index(fields=["task", "hour"], name="tally_of_task"),
                ],
            },
        ),
        migrations.RunPython(count_runs, migrations.RunPython.noop),
    ]
