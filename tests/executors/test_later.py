from __future__ import annotations

import asyncio

from executors.later import Later


def test_calls_are_made_in_order_and_none_too_early() -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        later = Later(loop, 0.02)
        made: list[tuple[int, float]] = []
        given: list[float] = []

        def give(number: int) -> None:
            given.append(loop.time())
            later.call(lambda: made.append((number, loop.time())))

        for number in range(5):
            give(number)
            await asyncio.sleep(0.005)
        while len(made) < 5:
            await asyncio.sleep(0.001)
        give(5)
        while len(made) < 6:
            await asyncio.sleep(0.001)
        assert [number for number, _ in made] == list(range(6))
        for number, at in made:
            assert at - given[number] >= 0.019

    asyncio.run(work())


def test_one_timer_does_for_all() -> None:
    class Loop:
        timers = 0

        def time(self) -> float:
            return 0.0

        def call_later(self, *_: object) -> None:
            self.timers += 1

    loop = Loop()
    later = Later(loop, 1.0)  # type: ignore[arg-type]  # what it needs of one
    for _ in range(10):
        later.call(lambda: None)
    assert loop.timers == 1
