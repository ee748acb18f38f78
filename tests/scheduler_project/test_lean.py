"""What the real processes load, and what they do without."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from scheduler_project.lean import is_work
from tests.services import Platform, platform, until
from workers_app.models import Leadership, WorkerInfo

FOR_PAGES = {
    "django.contrib.admin",
    "django.contrib.auth",
    "django.core.mail.message",
    "django.forms.models",
    "django.template.base",
    "django.views.debug",
    "drf_spectacular",
    "rest_framework",
    "tasks_app.admin",
    "tasks_app.api",
    "unfold",
}
FOR_OTHERS = {
    "billiard.dummy",
    "click.core",
    "crontab",
    "dateutil.parser._parser",
    "django.http.response",
    "django.urls.resolvers",
    "httpx2",
    "jsonschema",
    "pygments.lexers",
    "redis.asyncio.client",
    "redis.cluster",
    "rich.console",
    "sqlparse.engine",
    "tzlocal.unix",
    "yaml.loader",
}
"""A module that is looked for in vain is in the list of imports, too."""
CELERY = ("-m", "celery", "-A", "scheduler_project")
IMPORT = re.compile(rb"^import time: +\d+ \| +\d+ \| *([\w.]+)", re.MULTILINE)


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["manage.py", "worker", "--name", "w"], True),
        (["./manage.py", "beat"], True),
        (["/srv/bin/celery", "-A", "scheduler_project", "worker"], True),
        (["/x/celery/__main__.py", "-A", "scheduler_project", "beat"], True),
        (["manage.py", "up"], False),
        (["manage.py", "migrate", "worker"], False),
        (["manage.py"], False),
        (["/x/gunicorn/__main__.py", "scheduler_project.asgi:application"], False),
        (["/x/pytest/__main__.py", "worker"], False),
        (["-c"], False),
        ([""], False),
    ],
)
def test_a_command_line_tells_whether_a_process_only_works(
    argv: list[str],
    expected: bool,  # noqa: FBT001 - a column of the table
) -> None:
    assert is_work(argv) is expected


def imports(process: subprocess.Popen[bytes], running: Platform) -> set[str]:
    """What the process has imported by its end, which this asks for."""
    process.terminate()
    process.wait(20)
    (log,) = running.folder.glob("*.log")
    return {name.decode() for name in IMPORT.findall(log.read_bytes())}


@pytest.mark.parametrize(
    ("command", "without"),
    [
        (("manage.py", "worker", "--name", "lean"), FOR_PAGES | FOR_OTHERS),
        ((*CELERY, "worker", "-n", "lean"), FOR_PAGES),
    ],
)
def test_a_worker_loads_neither_pages_nor_what_no_run_has_needed(
    command: tuple[str, ...],
    without: set[str],
    database: None,
    valkey_url: str,
    tmp_path: Path,
) -> None:
    with platform(valkey_url, tmp_path) as started:
        worker = started.start("-X", "importtime", *command)
        online = WorkerInfo.objects.alive().filter(name="lean")
        until(online.exists, started)
        loaded = imports(worker, started)
        assert "executors.supervisor" in loaded
        assert loaded & without == set()


@pytest.mark.parametrize(
    ("command", "without"),
    [(("manage.py", "beat"), FOR_PAGES | FOR_OTHERS), ((*CELERY, "beat"), FOR_PAGES)],
)
def test_a_beat_loads_no_pages(
    command: tuple[str, ...],
    without: set[str],
    database: None,
    valkey_url: str,
    tmp_path: Path,
) -> None:
    with platform(valkey_url, tmp_path) as started:
        Leadership.objects.all().delete()
        beat = started.start("-X", "importtime", *command)
        until(Leadership.objects.exists, started)  # it ticks
        loaded = imports(beat, started)
        assert "tasks_app.ledger.planning" in loaded
        assert loaded & without == set()


def run_as_worker(code: str) -> None:
    """Run code where Gnomon is loaded as for a worker."""
    start = (
        "import sys, django; sys.argv = ['manage.py', 'worker']\n"
        "import scheduler_project; django.setup()\n"
    )
    subprocess.run(
        [sys.executable, "-c", start + code],
        check=True,
        timeout=60,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "scheduler_project.settings"},
    )


def test_what_is_spared_is_there_for_whoever_asks_later() -> None:
    """A task of one's own may well read YAML, or send mail."""
    run_as_worker(
        "import click, redis, rich, yaml\n"
        "from click.exceptions import Exit\n"
        "from django.core.mail import EmailMessage, get_connection\n"
        "assert redis and rich and yaml and get_connection\n"
        "assert Exit(3).exit_code == 3\n"
        "assert click.ClickException('no').exit_code == 1\n"
        "assert EmailMessage('s', 'b').message()['Subject'] == 's'\n"
    )


def test_all_that_comes_late_comes_whole() -> None:
    """Also after an update of a library: a name that is gone would be missed here."""
    run_as_worker(
        "from importlib import import_module\n"
        "from scheduler_project import late, lean\n"
        "for name, places in {**lean.LATE, **lean.LATE_FOR_WORK}.items():\n"
        "    module = import_module(name)\n"
        "    given = {place: getattr(module, place) for place in places}\n"
        "    assert not hasattr(module, 'no such name')  # runs it\n"
        "    for place, value in given.items():\n"
        "        real = vars(module)[place]\n"
        "        assert not isinstance(real, late.StandIn), (name, place)\n"
        "        assert isinstance(places[place], str) <= (value is real), place\n"
    )


def test_a_module_within_a_late_package_is_loaded_once() -> None:
    run_as_worker(
        "import django.forms.widgets, redis.asyncio.client, redis.connection\n"
        "import django.forms, redis.asyncio\n"
        "assert django.forms.Widget is django.forms.widgets.Widget\n"
        "assert redis.asyncio.Redis is redis.asyncio.client.Redis\n"
        "assert redis.SSLConnection is redis.connection.SSLConnection\n"
        "from redis import RedisCluster, Sentinel\n"
        "assert issubclass(RedisCluster, redis.commands.RedisClusterCommands)\n"
    )


def test_what_comes_late_comes_whole_to_all_threads() -> None:
    run_as_worker(
        "from concurrent.futures import ThreadPoolExecutor\n"
        "import django.db.models.fields as fields\n"
        "late = fields.forms\n"
        "assert 'django.forms.models' not in sys.modules\n"
        "def ask(number):\n"
        "    from django.forms import CharField, ModelForm\n"
        "    import django.forms.widgets\n"
        "    return CharField, ModelForm, late.CharField\n"
        "with ThreadPoolExecutor(8) as threads:\n"
        "    found = set(threads.map(ask, range(64)))\n"
        "((one, form, other),) = found\n"
        "assert one is other and 'django.forms.models' in sys.modules\n"
        "assert fields.CharField(max_length=3).formfield().max_length == 3\n"
    )


def test_rabbitmq_costs_no_redis() -> None:
    code = (
        "import sys; sys.argv = ['manage.py', 'worker'];"
        " import scheduler_project, workers_app.tasks;"
        " assert 'redis' not in sys.modules"
    )
    subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        timeout=60,
        env={"BROKER_URL": "amqp://nobody@127.0.0.1:1//", "PATH": ""},
    )
