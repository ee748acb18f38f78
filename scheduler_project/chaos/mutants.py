"""The product with one safeguard taken out, to show that chaos would see it missing.

`python -m scheduler_project.chaos.mutants NAME PROGRAM ARGS...` runs a Python program
(or `-m MODULE`) whose modules are edited as they are imported. Nothing in the product
knows of it, and nothing is written to disk.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import runpy
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any


@dataclass(frozen=True, slots=True)
class Edit:
    """In a module, `old` becomes `new`; it must be there exactly once."""

    module: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """What is taken out: from modules, and by SQL from the database."""

    edits: Sequence[Edit]
    sql: Sequence[str] = ()


MUTANTS = {
    # The end of any attempt counts, whatever the run has come to meanwhile.
    "no-fencing": Mutant(
        [
            Edit(
                "tasks_app.ledger.attempts",
                "WHERE id = v.run_id AND tasks_app_taskrun.attempt = v.attempt\n"
                "        AND CASE tasks_app_taskrun.status WHEN %s THEN true ELSE false"
                " END\n"
                '        {looked_up("SELECT run_id FROM done", run_ids)}\n'
                "        RETURNING {ENDED},",
                "WHERE id = v.run_id AND %s <> ''\n        RETURNING"
                " {ENDED.replace('tasks_app_taskrun.attempt', 'v.attempt')},",
            ),
            Edit(
                "tasks_app.ledger.attempts",
                "WHERE id = v.run_id AND tasks_app_taskrun.attempt = v.attempt\n"
                "        AND status || '' = %s",
                "WHERE id = v.run_id AND %s <> ''",
            ),
        ],
        ["DROP TRIGGER run_outcome_is_final ON tasks_app_taskrun"],
    ),
    # Beats take no turns, and nothing stops the second row of a fire. A tenth of a
    # second between reading and writing, as on a slow disk, lets them meet.
    "no-unique": Mutant(
        [
            Edit(
                "tasks_app.ledger.due",
                " {sql.skip_locked_task}",
                "",
            ),
            Edit(
                "tasks_app.ledger.planning",
                " AND tasks_app_task.next_fire_at = v.was",
                "",
            ),
            Edit(
                "tasks_app.ledger.planning",
                "        run_ids = create(runs, due.policies",
                "        __import__('time').sleep(0.1)\n"
                "        run_ids = create(runs, due.policies",
            ),
        ],
        ["DROP INDEX first_run_unique_fire"],
    ),
    # Nobody looks for the runs of dead workers.
    "no-reaper": Mutant(
        [Edit("workers_app.beat", "reaped := ledger.reap()", "reaped := 0")]
    ),
}


class MutantDoesNotFit(Exception):
    """The product has changed, and the edit finds nothing to change."""


def mutated(source: str, edits: Sequence[Edit]) -> str:
    """The source with all edits made.

    Raises:
        MutantDoesNotFit: what is to go is not there, or more than once.
    """
    for edit in edits:
        if (found := source.count(edit.old)) != 1:
            raise MutantDoesNotFit(
                f"{edit.module} has {found} times, not once: {edit.old!r}; change the"
                " edit in scheduler_project/chaos/mutants.py"
            )
        source = source.replace(edit.old, edit.new)
    return source


class _Loader(importlib.machinery.SourceFileLoader):
    """Compiles the edited source; the cache of compiled files is neither read nor
    written, for it is everybody's."""

    def __init__(self, name: str, path: str, edits: Sequence[Edit]) -> None:
        super().__init__(name, path)
        self._edits = edits

    def get_code(self, fullname: str) -> CodeType | None:
        path = self.get_filename(fullname)
        source = mutated(Path(path).read_text(), self._edits)
        return compile(source, path, "exec", dont_inherit=True)


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant

    def find_spec(
        self, fullname: str, _path: Any, _target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        edits = [edit for edit in self._mutant.edits if edit.module == fullname]
        if not edits:
            return None
        path = module_path(fullname)
        loader = _Loader(fullname, str(path), edits)
        return spec_from_file_location(fullname, path, loader=loader)


def module_path(module: str) -> Path:
    """The file of a module of the product."""
    root = Path(__file__).resolve().parents[2]
    return root.joinpath(*module.split(".")).with_suffix(".py")


def main(name: str, *argv: str) -> None:
    """Become the program, mutated."""
    sys.meta_path.insert(0, _Finder(MUTANTS[name]))
    if loaded := {edit.module for edit in MUTANTS[name].edits} & set(sys.modules):
        raise MutantDoesNotFit(f"imported before it could be edited: {loaded}")
    if argv[0] == "-m":
        sys.argv = list(argv[1:])
        runpy.run_module(argv[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = list(argv)
        runpy.run_path(argv[0], run_name="__main__")


if __name__ == "__main__":
    main(*sys.argv[1:])
