"""Mutants are the product with a safeguard less, in one process only."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scheduler_project.chaos.mutants import (
    MUTANTS,
    Edit,
    MutantDoesNotFit,
    module_path,
    mutated,
)

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_each_mutant_fits_the_product_as_it_is(name: str) -> None:
    for edit in MUTANTS[name].edits:
        path = module_path(edit.module)
        mine = [other for other in MUTANTS[name].edits if other.module == edit.module]
        compile(mutated(path.read_text(), mine), str(path), "exec")


@pytest.mark.parametrize("source", ["", "ab ab"])
def test_an_edit_that_does_not_fit_once_is_refused(source: str) -> None:
    with pytest.raises(MutantDoesNotFit, match=r"a\.module has"):
        mutated(source, [Edit("a.module", "ab", "b")])


def test_a_program_runs_mutated_and_leaves_no_trace(tmp_path: Path) -> None:
    """Not even in the cache of compiled modules, which other processes read."""
    program = tmp_path / "program.py"
    program.write_text(
        "import os, django\n"
        "os.environ['DJANGO_SETTINGS_MODULE'] = 'scheduler_project.settings'\n"
        "django.setup()\n"
        "import inspect, workers_app.beat as beat\n"
        "names = beat.LedgerScheduler._upkeep.__code__.co_names\n"
        "print('reap' in names)\n"
    )
    mutant = ["-m", "scheduler_project.chaos.mutants", "no-reaper"]
    for prefix, expected in ((mutant, "False"), ([], "True")):
        done = subprocess.run(
            [sys.executable, *prefix, str(program)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == expected
