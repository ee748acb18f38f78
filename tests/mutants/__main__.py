"""`python -m tests.mutants [WORDS]`: run the suite against each mutant in turn.

Each is made in a copy of the tree; this one stays as it is. WORDS choose the mutants
whose names have one of them. Exits 1 if one survives, or cannot be made.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.mutants.catalogue import MUTANTS, ROOT, Mutant

TEST_SECONDS = 600
FAILED = re.compile(r"^FAILED \S+::(\S+)", re.MULTILINE)


class SuiteIsBroken(Exception):
    """The tests cannot tell: they fail without mutant, or do not run."""


def copy_tree(target: Path) -> None:
    """The files that git knows, and those that it would add, as they are now."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    )
    for name in listed.stdout.split("\0"):
        if name and (ROOT / name).is_file():
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, path)


def mutate(tree: Path, mutant: Mutant) -> dict[Path, str]:
    """Make the edits; returns the files as they were.

    Raises:
        MutantDoesNotFit: the product has changed.
    """
    before: dict[Path, str] = {}
    for edit in mutant.edits:
        path = tree / edit.path
        before.setdefault(path, path.read_text())
        path.write_text(edit.applied(path.read_text()))
    return before


def failing(tree: Path, tests: Sequence[str], database: str) -> str:
    """The first of the tests that fails; empty if they all pass.

    Raises:
        SuiteIsBroken: they do not run.
    """
    command = [sys.executable, "-m", "pytest", "--db", database, "-x", *tests]
    try:
        done = subprocess.run(
            command,
            cwd=tree,
            capture_output=True,
            check=False,
            text=True,
            timeout=TEST_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return f"no end within {TEST_SECONDS} s"
    found = FAILED.search(done.stdout)
    if done.returncode == 1 and found:
        return found[1]
    if done.returncode:
        raise SuiteIsBroken(f"{' '.join(command)}\n{done.stdout[-3000:]}{done.stderr}")
    return ""


def check_without_mutant(tree: Path, mutants: Sequence[Mutant]) -> None:
    """All tests that are to see something must pass while there is nothing to see.

    Raises:
        SuiteIsBroken: one fails.
    """
    for database in ("sqlite", "postgres"):
        used = {test for m in mutants if m.database == database for test in m.tests}
        if used and (test := failing(tree, sorted(used), database)):
            raise SuiteIsBroken(f"without any mutant, {test} fails on {database}")


def main(words: Sequence[str]) -> int:
    mutants = [m for m in MUTANTS if not words or any(w in m.name for w in words)]
    survived = 0
    with tempfile.TemporaryDirectory(prefix="gnomon-mutants-") as folder:
        tree = Path(folder)
        copy_tree(tree)
        tell("the suite without mutant ...")
        check_without_mutant(tree, mutants)
        for number, mutant in enumerate(mutants, 1):
            begun = time.monotonic()
            before = mutate(tree, mutant)
            try:
                test = failing(tree, mutant.tests, mutant.database)
            finally:
                for path, text in before.items():
                    path.write_text(text)
            survived += not test
            verdict = f"caught by {test}" if test else "SURVIVED"
            seconds = time.monotonic() - begun
            tell(
                f"{number:2}/{len(mutants)} {mutant.promise:4} {mutant.name:42}"
                f" {seconds:4.0f} s  {verdict}"
            )
    tell(f"{len(mutants) - survived} of {len(mutants)} mutants caught")
    return 1 if survived else 0


def tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except SuiteIsBroken as broken:
        sys.exit(f"the suite is broken: {broken}")
