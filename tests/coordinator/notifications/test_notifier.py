"""Notifiers: a subscriber can be cancelled at any moment, even during a notification."""

import asyncio

import pytest

from coordinator.notifications.notifier import Notifier


@pytest.mark.parametrize("turns", range(5))
def test_a_subscriber_that_is_cancelled_as_it_is_notified_ends(turns: int) -> None:
    notifier = Notifier()

    async def subscribe() -> None:
        with notifier.subscribe("") as subscription:
            while True:
                await subscription.wait(60)

    async def main() -> None:
        subscriber = asyncio.create_task(subscribe())
        await asyncio.sleep(0.01)
        notifier.notify([""])
        for _ in range(turns):
            await asyncio.sleep(0)
        subscriber.cancel()
        ended, _ = await asyncio.wait([subscriber], timeout=5)
        assert subscriber in ended, "the cancellation was lost"

    asyncio.run(main())


def test_a_subscriber_is_notified_of_its_key_or_its_time_is_over() -> None:
    notifier = Notifier()

    async def main() -> list[bool]:
        with notifier.subscribe("a") as subscription:
            notifier.notify(["b"])
            before = await subscription.wait(0.01)
            notifier.notify(["a"])
            return [before, await subscription.wait(60), await subscription.wait(0.01)]

    assert asyncio.run(main()) == [False, True, False]
