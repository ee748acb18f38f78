"""What the pool reads from a doorbell."""

from __future__ import annotations

import json
import pickle

import pytest
from kombu.exceptions import ContentDisallowed

from workers_app.dispatch import door_of
from workers_app.pool import _is_own, _runs


def body(**kwargs: object) -> bytes:
    return json.dumps([[], kwargs, {}]).encode()


def test_a_doorbell_speaks_for_some_runs() -> None:
    assert _runs(body(runs=2), "application/json", "utf-8") == 2


def test_a_doorbell_of_a_stock_beat_speaks_for_none() -> None:
    assert _runs(body(), "application/json", "utf-8") == 0


def test_a_buffer_is_read_like_bytes() -> None:
    assert _runs(memoryview(body(runs=7)), "application/json", "utf-8") == 7


@pytest.mark.parametrize("runs", [None, "1", {"1": 1}, True, 1.0, [1], -1])
def test_anything_but_a_number_is_refused(runs: object) -> None:
    with pytest.raises(ValueError, match="a number of runs"):
        _runs(body(runs=runs), "application/json", "utf-8")


def test_more_than_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="a number of runs"):
        _runs(body(runs=1, command="rm -rf /"), "application/json", "utf-8")


def test_nothing_is_unpickled() -> None:
    forged = pickle.dumps([[], {"runs": 1}, {}])
    with pytest.raises(ContentDisallowed):
        _runs(forged, "application/x-python-serialize", "binary")


def test_a_bell_at_the_workers_own_door_is_told_from_that_of_a_queue() -> None:
    def came_by(address: object) -> bool:
        return _is_own({"delivery_info": {"routing_key": address}})

    assert came_by(door_of("w-1").name)
    assert not came_by("default")
    assert not came_by(None)
