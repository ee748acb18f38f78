"""A trigger that keeps terminal states as they are (C2)."""

from django.db import migrations

TERMINAL = (
    "('succeeded', 'failed', 'timed_out', 'cancelled', 'lost', 'skipped', 'expired')"
)
OUTCOME = ("status", "attempt", "completed_at", "exit_code", "result", "error")

POSTGRESQL = [
    """
    CREATE FUNCTION tasks_app_refuse_change_of_outcome() RETURNS trigger
    LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'run % is %: a terminal state never changes', OLD.id, OLD.status
            USING ERRCODE = 'check_violation', CONSTRAINT = 'run_outcome_is_final';
    END $$
    """,
    f"""
    CREATE TRIGGER run_outcome_is_final BEFORE UPDATE ON tasks_app_taskrun
    FOR EACH ROW WHEN (
        OLD.status IN {TERMINAL}
        AND ({" OR ".join(f"OLD.{name} IS DISTINCT FROM NEW.{name}" for name in OUTCOME)})
    ) EXECUTE FUNCTION tasks_app_refuse_change_of_outcome()
    """,
]
SQLITE = [
    f"""
    CREATE TRIGGER run_outcome_is_final BEFORE UPDATE ON tasks_app_taskrun
    WHEN OLD.status IN {TERMINAL}
        AND ({" OR ".join(f"OLD.{name} IS NOT NEW.{name}" for name in OUTCOME)})
    BEGIN
        SELECT RAISE(ABORT, 'a terminal state never changes');
    END
    """,
]


def add_trigger(apps, schema_editor):
    on_postgresql = schema_editor.connection.vendor == "postgresql"
    for statement in POSTGRESQL if on_postgresql else SQLITE:
        schema_editor.execute(statement, params=None)


def drop_trigger(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("DROP TRIGGER run_outcome_is_final ON tasks_app_taskrun")
        schema_editor.execute("DROP FUNCTION tasks_app_refuse_change_of_outcome()")
    else:
        schema_editor.execute("DROP TRIGGER run_outcome_is_final")


class Migration(migrations.Migration):
    dependencies = [("tasks_app", "0001_initial")]

    operations = [
        migrations.RunPython(add_trigger, drop_trigger),
    ]
