"""Workflows with real processes: what a parent gives reaches its child."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks_app.models import RunLog, Task, TaskRun
from tasks_app.services.runs import run_cancel, run_rerun_failed
from tests.factories import make_run, make_task
from tests.services import FAST, Platform, ended, platform, until


@pytest.fixture(scope="module")
def running(
    database: None, valkey_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Platform]:
    """A beat, and a worker with an installed package that offers `shop.count`."""
    package = tmp_path_factory.mktemp("package")
    package.joinpath("shop.py").write_text(
        "def count():\n    return {'rows': 7, 'name': 'ü'}\n"
    )
    about = package / "shop-1.0.dist-info"
    about.mkdir()
    about.joinpath("METADATA").write_text("Name: shop\nVersion: 1.0\n")
    about.joinpath("entry_points.txt").write_text(
        "[gnomon.callables]\nshop.count = shop:count\n"
    )
    with platform(valkey_url, tmp_path_factory.mktemp("logs"), **FAST) as started:
        started.beat()
        started.worker("workflows", PYTHONPATH=str(package))
        yield started


def run_of(task: Task, root: TaskRun, running: Platform) -> TaskRun:
    """The task's run under this root, once it is there."""
    runs = TaskRun.objects.filter(task=task, root=root)
    until(runs.exists, running)
    return runs.get()


def test_a_parents_result_reaches_its_childs_environment(running: Platform) -> None:
    count = make_task(
        queue=running.queue, name="count", executor="python", command="shop.count"
    )
    report = make_task(
        count,
        queue=running.queue,
        command='printf "%s" "$PARAM_DAY: $PARAM_PARENT_RESULTS"',
    )
    root = make_run(count, params={"day": "monday"})
    child = ended(run_of(report, root, running), running)
    assert child.status == "succeeded", running.logs()
    text = "".join(RunLog.objects.filter(run=child).values_list("text", flat=True))
    day, _, results = text.partition(": ")
    assert day == "monday"
    assert json.loads(results) == {"count": {"rows": 7, "name": "ü"}}


def test_a_cancelled_workflow_is_stopped_and_run_again_from_there(
    running: Platform, tmp_path: Path
) -> None:
    begun, fixed = tmp_path / "begun", tmp_path / "fixed"
    first = make_task(queue=running.queue)
    slow = make_task(
        first,
        queue=running.queue,
        command=f"test -e {fixed} && exit; touch {begun}; sleep 60",
    )
    last = make_task(slow, queue=running.queue, trigger_rule="all_done")
    root = ended(make_run(first), running)
    until(begun.exists, running)
    run_cancel(run_id=root.pk, actor="user:test")
    skipped = run_of(last, root, running)
    assert run_of(slow, root, running).status == "cancelled"
    assert (skipped.status, skipped.reason) == ("skipped", "the workflow was cancelled")
    fixed.touch()
    again = ended(run_rerun_failed(run=root, actor="user:test"), running)
    assert (again.task_id, again.status) == (slow.pk, "succeeded")
    assert ended(run_of(last, again, running), running).status == "succeeded"
