"""Turns: few at a time, none for long, and every place comes back."""

from __future__ import annotations

import asyncio

import pytest

from executors.turns import Turn, Turns

LONG, AT_ONCE = 60.0, 0.0


async def takes(turns: Turns, taken: list[int], number: int) -> Turn:
    """Take a turn and keep it, until it is cancelled or ended."""
    async with turns.take() as turn:
        taken.append(number)
        await asyncio.Event().wait()
        return turn


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def test_only_so_many_have_a_turn() -> None:
    async def scene() -> list[int]:
        turns, taken = Turns(2, LONG), list[int]()
        tasks = [asyncio.create_task(takes(turns, taken, n)) for n in range(5)]
        await settle()
        first = list(taken)
        tasks[0].cancel()
        await settle()
        assert taken == [*first, 2]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return first

    assert asyncio.run(scene()) == [0, 1]


def test_a_turn_is_over_in_time_while_its_holder_goes_on() -> None:
    async def scene() -> None:
        turns, taken = Turns(1, AT_ONCE), list[int]()
        tasks = [asyncio.create_task(takes(turns, taken, n)) for n in range(3)]
        async with asyncio.timeout(10):
            while len(taken) < 3:
                await asyncio.sleep(0)
        assert not any(task.done() for task in tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(scene())


@pytest.mark.parametrize("event", ["http11.send_request_headers.started"])
def test_a_turn_ends_once_when_the_request_is_sent(event: str) -> None:
    async def scene() -> None:
        turns = Turns(1, LONG)
        async with turns.take() as turn:
            await turn.trace("connection.connect_tcp.started", {})
            assert turns._free.locked()
            await turn.trace(event, {})
            await turn.trace(event, {})
            assert not turns._free.locked()
        async with turns.take():
            assert turns._free.locked()

    asyncio.run(scene())
