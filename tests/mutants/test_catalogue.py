"""The mutants fit the product as it is."""

from __future__ import annotations

import pytest

from tests.mutants.catalogue import MUTANTS, ROOT, Edit, Mutant, MutantDoesNotFit


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_mutant_can_be_made(mutant: Mutant) -> None:
    sources: dict[str, str] = {}
    for edit in mutant.edits:
        source = sources.get(edit.path) or (ROOT / edit.path).read_text()
        sources[edit.path] = edit.applied(source)
        compile(sources[edit.path], edit.path, "exec")
    for test in mutant.tests:
        path, *names = test.split("::")
        source = (ROOT / path).read_text()
        assert all(f"def {name}(" in source for name in names[-1:])


def test_a_mutant_that_finds_nothing_to_change_says_so() -> None:
    with pytest.raises(MutantDoesNotFit, match="has 0 times"):
        Edit("x.py", "gone", "").applied("here")
