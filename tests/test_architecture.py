"""House rules that no linter knows."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks_app.choices import RunStatus
from tasks_app.rules.states import ALLOWED, render_mermaid

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("scheduler_project", "workers_app", "tasks_app", "executors")


def modules() -> Iterator[Path]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if "migrations" not in path.parts:
                yield path


def test_the_states_are_the_stored_ones() -> None:
    assert set(ALLOWED) == set(RunStatus.values)


def test_the_document_of_the_states_is_in_step() -> None:
    text = (ROOT / "docs" / "state_machine.md").read_text()
    assert f"```mermaid\n{render_mermaid()}```" in text, (
        "put the output of tasks_app.rules.states.render_mermaid() into"
        " docs/state_machine.md"
    )


@pytest.mark.parametrize(
    "table",
    [
        "tasks_app_taskrun",
        "tasks_app_runevent",
        "tasks_app_runtally",
        "tasks_app_hourtally",
    ],
)
def test_only_the_ledger_writes_runs_by_sql(table: str) -> None:
    writers = {
        path.relative_to(ROOT).parts[:2]
        for path in modules()
        for verb in ("UPDATE", "INSERT INTO", "DELETE FROM")
        if f"{verb} {table}" in path.read_text()
    }
    # The bench fills a database of its own with a history that nobody has lived.
    assert writers - {("scheduler_project", "bench")} <= {("tasks_app", "ledger")}


def test_only_the_ledger_writes_runs_by_the_orm() -> None:
    """No `.status = ...` on a run, and no writing queryset method on TaskRun, outside
    of the ledger. The bench's stock peer is written to be what the ledger is not."""
    found = [
        f"{path.relative_to(ROOT)}: {ast.unparse(node)[:60]}"
        for path in modules()
        if path.relative_to(ROOT).parts[:2]
        not in {("tasks_app", "ledger"), ("scheduler_project", "bench")}
        for node in ast.walk(ast.parse(path.read_text()))
        if _writes_a_run(node)
    ]
    assert found == []


def _writes_a_run(node: ast.AST) -> bool:
    if isinstance(node, ast.Assign | ast.AugAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return any(
            isinstance(target, ast.Attribute)
            and target.attr in {"status", "attempt"}
            and "run" in ast.unparse(target.value).lower()
            for target in targets
        )
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        writing = {"update", "create", "bulk_create", "bulk_update", "delete"}
        return node.func.attr in writing and "TaskRun." in ast.unparse(node.func)
    return False


def test_functions_stay_short() -> None:
    too_long = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {length} lines"
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or node.lineno) - node.lineno + 1) > 60
    ]
    assert too_long == []


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in modules()
        if path.read_text().strip()
        and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert silent == []
