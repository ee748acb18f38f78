"""Indexes of workflows and reruns that hold only the runs that are in one."""

from importlib import import_module

import django.db.models.deletion
from django.db import migrations, models

partitions = import_module("tasks_app.migrations.0004_partitions")


class Migration(migrations.Migration):
    dependencies = [
        ("tasks_app", "0005_history"),
        ("workers_app", "0002_draining"),
    ]

    operations = [
        # SQLite builds the table anew, without its trigger.
        migrations.RunPython(partitions.nothing, partitions.keep_final_states),
        migrations.AlterField(
            model_name="taskrun",
            name="root",
            field=models.ForeignKey(
                db_constraint=False,
                db_index=False,
                help_text="The run that began the workflow; empty on that run itself.",
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="descendants",
                to="tasks_app.taskrun",
            ),
        ),
        migrations.AddIndex(
            model_name="taskrun",
            index=models.Index(
                condition=models.Q(("root__isnull", False)),
                fields=["root"],
                name="run_in_workflow",
            ),
        ),
        migrations.AddIndex(
            model_name="taskrun",
            index=models.Index(
                condition=models.Q(("rerun_of__isnull", False)),
                fields=["rerun_of"],
                name="run_rerun_of",
            ),
        ),
        migrations.RunPython(partitions.keep_final_states, partitions.nothing),
    ]
