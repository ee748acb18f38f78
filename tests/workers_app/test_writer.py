"""The batching writer: shared statements, and nobody pays for another's fault."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

import pytest
from django.db import OperationalError, connection

from tasks_app import ledger
from tasks_app.ledger import Claimant, Finish, LogChunk
from tasks_app.models import RunLog, TaskRun
from tests.factories import claim, make_run, make_task, make_worker
from workers_app import writer as module
from workers_app.writer import Writer

pytestmark = pytest.mark.usefixtures("committed")
T = TypeVar("T")


def with_writer(act: Callable[[Writer], Awaitable[T]]) -> T:
    """Act with a running writer; all is written when it returns."""
    claimant = Claimant(make_worker().pk, ("default",))

    async def run() -> T:
        writer = Writer(claimant, asyncio.get_running_loop())
        writer.start()
        try:
            async with asyncio.timeout(20):
                return await act(writer)
        finally:
            await asyncio.to_thread(writer.stop)

    return asyncio.run(run())


def test_claims_that_come_together_share_one_transaction(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = make_task()
    runs = [make_run(task) for _ in range(50)]
    calls: list[int] = []
    really_claim = ledger.claim

    def count(claimant: Claimant, limit: int, *known: Any) -> list[ledger.ClaimedRun]:
        calls.append(limit)
        return really_claim(claimant, limit, *known)

    monkeypatch.setattr(ledger, "claim", count)

    async def act(writer: Writer) -> list[list[ledger.ClaimedRun]]:
        return await asyncio.gather(*(writer.claim(1) for _ in runs))

    answers = with_writer(act)

    assert [claimed.run_id for (claimed,) in answers] == [run.pk for run in runs]
    assert len(calls) < 10


def test_a_claim_that_waits_takes_more_and_one_under_way_does_not() -> None:
    task = make_task()
    runs = [make_run(task) for _ in range(5)]

    async def act(writer: Writer) -> list[list[ledger.ClaimedRun]]:
        more = partial(writer.claim_more, is_called=False, is_urgent=False)
        assert not more(1)
        with writer.turn:
            under_way = writer.claim(1)
            while more(0):
                await asyncio.sleep(0.001)
            waiting = writer.claim(1)
            assert more(2)
        return [await under_way, await waiting]

    first, second = with_writer(act)
    assert [len(first), len(second)] == [1, 3]
    assert [run.run_id for run in first + second] == [run.pk for run in runs[:4]]


def test_an_urgent_claim_waits_for_no_company(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINGER_SECONDS", 3600.0)

    task = make_task()
    runs = [make_run(task) for _ in range(4)]

    async def act(writer: Writer) -> list[ledger.ClaimedRun]:
        with writer.turn:  # two of the crowd share a batch: after it the writer lingers
            crowd = [writer.claim(1) for _ in range(3)]
        await asyncio.gather(*crowd)
        return await writer.claim(1, is_urgent=True)

    assert [claimed.run_id for claimed in with_writer(act)] == [runs[-1].pk]


def test_two_claims_of_one_run_have_one_winner() -> None:
    make_run()

    async def act(writer: Writer) -> list[list[ledger.ClaimedRun]]:
        return list(await asyncio.gather(writer.claim(1), writer.claim(1)))

    assert sorted(len(won) for won in with_writer(act)) == [0, 1]


def test_a_look_tells_whether_a_run_waits() -> None:
    async def act(writer: Writer) -> bool:
        return await writer.look()

    assert not with_writer(act)
    make_run()
    assert with_writer(act)


def test_an_end_is_written_after_the_output_that_came_before_it() -> None:
    run = make_run()
    claim(run)

    async def act(writer: Writer) -> bool:
        writer.append(LogChunk(run.pk, 1, 1, "stdout", "last words"))
        return await writer.finish(Finish(run.pk, 1, "succeeded"))

    assert with_writer(act)
    assert RunLog.objects.get(run=run).text == "last words"
    assert TaskRun.objects.get(pk=run.pk).status == "succeeded"


def test_a_late_end_is_told_that_it_was_refused() -> None:
    run = make_run()
    claim(run)
    ledger.finish([Finish(run.pk, 1, "failed")])

    async def act(writer: Writer) -> bool:
        return await writer.finish(Finish(run.pk, 1, "succeeded"))

    assert not with_writer(act)


def test_an_end_that_cannot_be_stored_whole_does_not_cost_the_others_theirs() -> None:
    good, bad = make_run(), make_run()
    claim(good)
    claim(bad)

    async def act(writer: Writer) -> list[bool]:
        ends = [
            Finish(bad.pk, 1, "succeeded", result={"n": object()}),
            Finish(good.pk, 1, "succeeded"),
        ]
        return await asyncio.gather(*(writer.finish(end) for end in ends))

    assert with_writer(act) == [True, True]
    good.refresh_from_db()
    bad.refresh_from_db()
    assert (good.status, bad.status) == ("succeeded", "succeeded")
    assert "could not be stored" in bad.error


def test_a_claim_beside_an_end_that_is_refused_is_made_once() -> None:
    bad, *_waiting = make_run(), make_run(), make_run()
    claim(bad)

    async def act(writer: Writer) -> list[int]:
        end = writer.finish(Finish(bad.pk, 1, "succeeded", result={"n": object()}))
        claimed = await writer.claim(1)
        await end
        return [run.run_id for run in claimed]

    claimed = with_writer(act)
    running = TaskRun.objects.filter(status="running")
    assert list(running.values_list("pk", "attempt")) == [(claimed[0], 1)]


def test_output_that_the_database_refuses_leaves_a_mark_on_the_run() -> None:
    run = make_run()
    claim(run)

    async def act(writer: Writer) -> bool:
        writer.append(LogChunk(run.pk, 1, 1, "stdout" * 10, "no such stream"))
        writer.append(LogChunk(run.pk, 1, -1, "stdout", "no such place"))
        return await writer.finish(Finish(run.pk, 1, "failed", exit_code=7))

    assert with_writer(act)
    run.refresh_from_db()
    assert (run.exit_code, run.log_truncated) == (7, True)


def test_ends_wait_for_a_database_that_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = make_run()
    claim(run)
    monkeypatch.setattr(module, "RECONNECT_SECONDS", 0.01)
    failures = iter([OperationalError("away")] * 3)
    really_finish = ledger.finish

    def finish(ends: list[Finish]) -> frozenset[ledger.Lease]:
        if error := next(failures, None):
            connection.close()
            raise error
        return really_finish(ends)

    monkeypatch.setattr(ledger, "finish", finish)

    async def act(writer: Writer) -> bool:
        return await writer.finish(Finish(run.pk, 1, "succeeded"))

    assert with_writer(act)
    run.refresh_from_db()
    assert run.status == "succeeded"


def test_claims_fail_at_once_while_the_database_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def away(*_: object) -> None:
        raise OperationalError("away")

    monkeypatch.setattr(module, "RECONNECT_SECONDS", 0.01)
    monkeypatch.setattr(ledger, "claim", away)

    async def act(writer: Writer) -> None:
        with pytest.raises(OperationalError):
            await writer.claim(1)

    with_writer(act)


def test_a_call_shows_a_new_lane_at_once_and_time_shows_it_later(
    settings: Any,
) -> None:
    settings.POLL_SECONDS = 3600

    async def act(writer: Writer) -> list[int]:
        found = [len(await writer.claim(5))]
        await asyncio.to_thread(make_run_of_a_lane)
        found.append(len(await writer.claim(5)))
        found.append(len(await writer.claim(5, is_called=True)))
        await asyncio.to_thread(make_run_of_a_lane, "not spot")
        settings.POLL_SECONDS = 0
        writer._outlook_until = 0.0
        found.append(len(await writer.claim(5)))
        return found

    assert with_writer(act) == [0, 0, 1, 1]


def make_run_of_a_lane(match: str = "not gpu") -> None:
    make_run(make_task(match=match))
    connection.close()
