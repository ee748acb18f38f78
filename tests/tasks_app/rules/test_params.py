from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks_app.rules.params import (
    MAX_RESULT_BYTES,
    MAX_VALUE_BYTES,
    param_environment,
    param_problems,
    param_text,
    parent_results,
)


def size(value: Any) -> int:
    return len(param_text(value).encode())


@pytest.mark.parametrize("name", ["parent_results", "PARENT_RESULTS"])
def test_the_name_that_workflows_use_is_refused(name: str) -> None:
    (problem,) = param_problems({name: 1})
    assert (problem.name, problem.code) == (name, "reserved")


def test_small_results_are_passed_on_as_they_are() -> None:
    results = {"a": {"rows": 7}, "b": None, "c": "ü", "d": [1, 2.5, True]}
    assert parent_results(results) == results
    assert parent_results({}) == {}


def test_a_result_may_have_64_kib() -> None:
    fits = "x" * 65_534  # and two quotation marks
    assert parent_results({"a": fits, "b": 1}) == {"a": fits, "b": 1}
    over = {"a": fits + "x", "b": 1}
    assert parent_results(over) == {"a": {"omitted_bytes": 65_537}, "b": 1}


def test_the_largest_give_way_until_the_whole_fits() -> None:
    results = {name: name * 30_000 for name in "abcd"} | {"e": "e" * 30_001}
    kept = parent_results(results)
    assert kept == results | {"e": {"omitted_bytes": 30_003}}
    assert size(kept) <= MAX_VALUE_BYTES


def test_one_word_stands_for_all_where_there_are_too_many() -> None:
    results = {f"{number:0200}": "x" * 100 for number in range(1000)}
    assert parent_results(results) == {"omitted_bytes": 102_000}


texts = st.builds(
    lambda text, times: text * times, st.text('aü"\n'), st.integers(0, 5000)
)


@settings(max_examples=50)
@given(st.dictionaries(st.text('aü"\n', max_size=200), texts, max_size=8))
def test_what_is_passed_on_always_fits_the_environment(results: dict[str, str]) -> None:
    kept = parent_results(results)
    assert size(kept) <= MAX_VALUE_BYTES
    for name, result in kept.items():
        if result != results.get(name):
            assert set(result) == {"omitted_bytes"} or name == "omitted_bytes"
        else:
            assert size(json.dumps(result, ensure_ascii=False)) <= MAX_RESULT_BYTES


def test_a_job_finds_its_parents_results_in_its_environment() -> None:
    environment = param_environment({"parent_results": {"load": {"rows": 7}}})
    assert environment == {"PARAM_PARENT_RESULTS": '{"load": {"rows": 7}}'}
