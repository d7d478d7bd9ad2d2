"""Changes for slow readers: bounded, the newest kept, and an end that is told."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from membership.changes import Change, LeaderProposed
from membership.subscription import Subscription


def change(number: int) -> Change:
    return LeaderProposed(uid=number)


async def read_all(subscription: Subscription) -> list[Change]:
    return [one async for one in subscription]


async def test_changes_come_in_order() -> None:
    """What was offered before anybody read, and after, is read in the order of the offers."""
    subscription = Subscription(lambda _: None)
    seen: list[Change] = []
    async with trio.open_nursery() as nursery:

        async def read() -> None:
            seen.extend(await read_all(subscription))

        subscription.offer(change(1))
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        subscription.offer(change(2))
        subscription.end()

    assert seen == [change(1), change(2)]


async def test_a_slow_reader_loses_the_oldest() -> None:
    """The last word is never the one that is lost, and the reader can see that some are."""
    subscription = Subscription(lambda _: None, limit=3)
    for number in range(10):
        subscription.offer(change(number))
    subscription.end()

    assert await read_all(subscription) == [change(7), change(8), change(9)]
    assert subscription.missed == 7


async def test_closing_tells_whoever_offers() -> None:
    """A subscription that was closed is taken off the list; who reads on is told."""
    ended: list[Subscription] = []
    with Subscription(ended.append) as subscription:
        subscription.offer(change(1))

    assert ended == [subscription]
    with pytest.raises(trio.ClosedResourceError):
        await read_all(subscription)
