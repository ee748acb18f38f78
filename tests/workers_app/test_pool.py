"""What the pool reads from a doorbell."""

from __future__ import annotations

import json
import pickle

import pytest
from kombu.exceptions import ContentDisallowed

from workers_app.pool import _run_ids


def body(**kwargs: object) -> bytes:
    return json.dumps([[], kwargs, {}]).encode()


def test_a_doorbell_names_runs() -> None:
    assert _run_ids(body(run_ids=[1, 2]), "application/json", "utf-8") == [1, 2]


def test_a_buffer_is_read_like_bytes() -> None:
    view = memoryview(body(run_ids=[7]))
    assert _run_ids(view, "application/json", "utf-8") == [7]


@pytest.mark.parametrize("run_ids", [None, "1", {"1": 1}, [True], ["1"], [1.0], [[1]]])
def test_anything_but_a_list_of_ids_is_refused(run_ids: object) -> None:
    with pytest.raises(ValueError, match="a list of run ids"):
        _run_ids(body(run_ids=run_ids), "application/json", "utf-8")


def test_nothing_is_unpickled() -> None:
    forged = pickle.dumps([[], {"run_ids": [1]}, {}])
    with pytest.raises(ContentDisallowed):
        _run_ids(forged, "application/x-python-serialize", "binary")
