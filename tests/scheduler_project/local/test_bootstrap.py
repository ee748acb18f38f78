from __future__ import annotations

import pytest
from django.contrib.auth import authenticate, get_user_model
from django.core.management import call_command

from scheduler_project.local.bootstrap import admin_create
from tasks_app.models import Task
from tests.factories import make_task

pytestmark = pytest.mark.django_db
WEB = "http://127.0.0.1:8000"


def test_the_password_logs_in_and_is_told_once() -> None:
    password = admin_create()

    assert authenticate(username="admin", password=password)
    assert admin_create() is None


def test_an_administrator_who_is_there_is_enough() -> None:
    get_user_model().objects.create_superuser("someone", password="x")

    assert admin_create() is None


def test_the_command_may_be_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("bootstrap", demo_tasks=WEB)
    first = capsys.readouterr().out
    call_command("bootstrap", demo_tasks=WEB)

    assert "Login: admin / " in first
    assert capsys.readouterr().out == ""
    assert Task.objects.filter(name__startswith="demo-").count() == 7


def test_demo_tasks_come_to_no_one_who_has_tasks() -> None:
    make_task()

    call_command("bootstrap", demo_tasks=WEB)

    assert Task.objects.count() == 1
