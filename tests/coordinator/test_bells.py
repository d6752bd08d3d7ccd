"""Bells: who listens can be stopped at any moment, also when it rings at that very moment."""

import asyncio

import pytest

from coordinator.bells import Bell


@pytest.mark.parametrize("turns", range(5))
def test_a_listener_that_is_cancelled_as_the_bell_rings_ends(turns: int) -> None:
    bell = Bell()

    async def listen() -> None:
        with bell.listen("") as listener:
            while True:
                await listener.wait(60)

    async def main() -> None:
        listening = asyncio.create_task(listen())
        await asyncio.sleep(0.01)
        bell.ring([""])
        for _ in range(turns):
            await asyncio.sleep(0)
        listening.cancel()
        ended, _ = await asyncio.wait([listening], timeout=5)
        assert listening in ended, "the cancellation was lost"

    asyncio.run(main())


def test_a_listener_hears_a_ring_or_that_its_time_is_over() -> None:
    bell = Bell()

    async def main() -> list[bool]:
        with bell.listen("a") as listener:
            bell.ring(["b"])
            before = await listener.wait(0.01)
            bell.ring(["a"])
            return [before, await listener.wait(60), await listener.wait(0.01)]

    assert asyncio.run(main()) == [False, True, False]
