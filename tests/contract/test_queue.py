"""What every queue promises. One suite over all of them: another queue is one more place.

What only one of the queues has to promise is in `test_queue_embedded.py` and `test_rabbitmq*.py`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from functools import partial

import pytest
import trio

from pipeline.priority import Turns
from pipeline.queues import embedded
from pipeline.queues.rabbitmq import receiver
from pipeline.tasks import Priority
from tests.contract.queue_places import (
    Consumer,
    Place,
    embedded_place,
    end,
    holds,
    insist,
    nothing_comes,
    rabbit_place,
    use,
    within,
)


@pytest.fixture(params=["embedded", "rabbitmq"])
def kind(request: pytest.FixtureRequest) -> AbstractAsyncContextManager[Place]:
    """Each kind of queue. Only what this one needs is started, and outside of trio."""
    if request.param == "embedded":
        return embedded_place(request.getfixturevalue("ledger_url"))
    rabbit = request.getfixturevalue("rabbit")
    return rabbit_place(rabbit, request.getfixturevalue("rabbit_config"))


@pytest.fixture
async def place(kind: AbstractAsyncContextManager[Place]) -> AsyncIterator[Place]:
    """A queue of each kind."""
    async with kind as place:
        yield place


@pytest.fixture
def queue(place: Place) -> Consumer:
    """A consumer, where one is enough."""
    return place.connect()


@pytest.fixture
def rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits looks once a minute: what comes within seconds was told, on any machine."""
    look_every(60.0, monkeypatch)


def look_every(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (embedded, receiver):
        monkeypatch.setattr(module, "LOOK_S", seconds)


async def test_first_in_first_out(queue: Consumer) -> None:
    """Messages come as they were published, in their order, whatever bytes they are."""
    bodies = [b"1", b"", b"\0\xff", "ü".encode(), b"x" * 100_000]
    for body in bodies:
        await queue.publish(body)
    deliveries = [await within(5, queue.receive) for _ in bodies]
    assert [delivery.body for delivery in deliveries] == bodies
    assert not any(delivery.redelivered for delivery in deliveries)


@pytest.mark.usefixtures("rarely")
async def test_a_waiting_receiver_is_woken(place: Place) -> None:
    """A message that is published to an idle consumer arrives at once, not at its next look."""
    waiting, publishing = place.connect(), place.connect()
    got = []
    await use(waiting)
    await use(publishing)

    async def receive() -> None:
        got.append((await within(10, waiting.receive)).body)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await trio.sleep(0.1)  # it must be idle: only time tells
        await publishing.publish(b"x")
    assert got == [b"x"]


async def test_several_receivers_share_a_consumer(queue: Consumer) -> None:
    """One call a slot may wait at once; each message goes to one of them."""
    got: list[bytes] = []

    async def receive() -> None:
        got.append((await queue.receive()).body)

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(receive)
        for number in range(8):
            await queue.publish(b"%d" % number)
    assert sorted(got) == [b"%d" % number for number in range(8)]
    await holds(queue, unacknowledged=8)


async def test_each_message_has_one_holder(place: Place) -> None:
    """Of many consumers that compete for many messages, no two get the same one."""
    consumers = [place.connect() for _ in range(4)]
    for number in range(20):
        await consumers[0].publish(b"%d" % number)
    got: list[bytes] = []

    async def drain(queue: Consumer) -> None:
        while len(got) < 20:
            with trio.move_on_after(0.05):
                got.append((await queue.receive()).body)

    async with trio.open_nursery() as nursery:
        for consumer in consumers:
            nursery.start_soon(drain, consumer)
    assert sorted(got) == sorted(b"%d" % number for number in range(20))


async def test_ack_removes(queue: Consumer) -> None:
    """For good, and once is enough."""
    await queue.publish(b"x")
    delivery = await within(5, queue.receive)
    await holds(queue, unacknowledged=1)
    await delivery.ack()
    await delivery.ack()
    await holds(queue)
    await nothing_comes(queue)


@pytest.mark.usefixtures("rarely")
async def test_put_back_at_once(place: Place) -> None:
    """It comes to another consumer that waits, and nobody is said to have died with it."""
    first, second = place.connect(), place.connect()
    await use(second)
    await first.publish(b"x")
    delivery = await within(5, first.receive)
    got = []

    async def receive() -> None:
        got.append(await within(10, second.receive))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await trio.sleep(0.05)
        await delivery.put_back(0.0)
    assert (got[0].body, got[0].redelivered) == (b"x", False)


@pytest.mark.usefixtures("rarely")
@pytest.mark.parametrize("how", ["publish", "put_back"])
async def test_a_delay_is_kept_exactly(place: Place, how: str) -> None:
    """A delayed message comes at its time: not before, and not only at the next look. Of some, the
    first is enough that this machine is not late for."""
    queue, delay_s = place.connect(), 0.3
    await use(queue)
    for _ in range(20):
        if how == "put_back":
            await queue.publish(b"x")
            delivery = await within(5, queue.receive)
            begun = trio.current_time()
            await delivery.put_back(delay_s)
        else:
            begun = trio.current_time()
            await queue.publish(b"x", delay_s=delay_s)
        delivery = await within(10, queue.receive)
        took_s = trio.current_time() - begun
        assert took_s >= delay_s
        if took_s < delay_s + place.tick_s + 0.3:
            break
        await delivery.ack()
    else:
        pytest.fail(f"it never came in time, at last after {took_s:.1f} s")


@pytest.mark.parametrize("how", ["publish", "put_back"])
async def test_what_is_delayed_is_counted(queue: Consumer, how: str) -> None:
    """While it waits for its time, as soon as it was delayed."""
    if how == "put_back":
        await queue.publish(b"x")
        await (await within(5, queue.receive)).put_back(60)
    else:
        await queue.publish(b"x", delay_s=60)
    assert (await queue.depth()).delayed == 1


@pytest.mark.usefixtures("rarely")
async def test_a_delay_that_begins_during_the_wait(place: Place) -> None:
    """A receiver that waits already comes to know of a message that this peer has delayed."""
    queue = place.connect()
    await use(queue)
    async with trio.open_nursery() as nursery:

        async def publish() -> None:
            await trio.sleep(0.05)
            await queue.publish(b"x", delay_s=0.2)

        nursery.start_soon(publish)
        begun = trio.current_time()
        await within(10, queue.receive)
    assert trio.current_time() - begun >= 0.2


async def test_the_priorities_get_their_shares(queue: Consumer) -> None:
    """Of all that wait, the next one is the oldest of the priority whose turn it is."""
    for number in range(20):
        for priority in Priority:
            await queue.publish(b"%d" % number, priority=priority)
    turns, waiting = Turns(), {priority: list(range(20)) for priority in Priority}
    for _ in range(60):
        delivery = await within(5, queue.receive)
        expected = next(priority for priority in turns.order() if waiting[priority])
        turns.took(expected)
        number = waiting[expected].pop(0)
        assert (delivery.priority, delivery.body) == (expected, b"%d" % number)
        await delivery.ack()


async def test_which_priorities_wait_for_their_turn(queue: Consumer) -> None:
    """Not those whose messages wait for their time, are in somebody's hands, or are dead."""
    assert list(await queue.waiting()) == []
    await queue.publish(b"later", delay_s=60, priority=Priority.HIGH)
    for priority in (Priority.NORMAL, Priority.NORMAL, Priority.LOW):
        await queue.publish(b"x", priority=priority)
    assert set(await queue.waiting()) == {Priority.NORMAL, Priority.LOW}
    held = [await within(5, queue.receive) for _ in range(3)]
    assert list(await queue.waiting()) == []
    await held[0].dead_letter("a test")
    await held[1].put_back(60)
    assert list(await queue.waiting()) == []
    await held[2].put_back(0.0)
    assert list(await queue.waiting()) == [held[2].priority]


@pytest.mark.parametrize("priority", Priority)
async def test_a_priority_is_kept(place: Place, priority: Priority) -> None:
    """Through a delay, a put back, and the death of a holder."""
    holding, queue = place.connect(), place.connect()
    await holding.publish(b"x", delay_s=0.05, priority=priority)
    delivery = await within(5, holding.receive)
    assert delivery.priority is priority
    await delivery.put_back(0.05)
    delivery = await within(5, holding.receive)
    assert (delivery.priority, delivery.redelivered) == (priority, False)
    await holding.aclose()
    delivery = await within(5, queue.receive)
    assert (delivery.priority, delivery.redelivered) == (priority, True)
    await delivery.put_back(0.0)
    delivery = await within(5, queue.receive)
    assert (delivery.priority, delivery.redelivered) == (priority, False)


async def test_a_receiver_that_waits_holds_one(place: Place) -> None:
    """When messages of all priorities come at once to one who waits, it takes one of them and
    leaves the others to those who have a free slot."""
    waiting, other = place.connect(), place.connect()
    got: list[Priority] = []
    await use(waiting)
    await use(other)

    async def receive() -> None:
        got.append((await waiting.receive()).priority)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await trio.sleep(0.1)  # it must be idle: only time tells
        async with trio.open_nursery() as publishing:
            for priority in Priority:
                publishing.start_soon(partial(other.publish, b"x", priority=priority))
    await holds(other, ready=2, unacknowledged=1)
    left = [await within(5, other.receive) for _ in range(2)]
    assert Counter([*got, *(delivery.priority for delivery in left)]) == Counter(Priority)
    assert not any(delivery.redelivered for delivery in left)


async def test_dead_letters_stay_aside(place: Place) -> None:
    """A message that was set aside is kept and never delivered again, to nobody."""
    queue = place.connect()
    await queue.publish(b"not json")
    delivery = await within(5, queue.receive)
    await delivery.dead_letter("the message is not \0 JSON")
    await delivery.put_back(0.0)
    await holds(queue, dead=1)
    assert "JSON" in (await queue.depth()).dead_reason
    await nothing_comes(place.connect())


async def test_the_newest_dead_letters_reason_is_told(place: Place) -> None:
    """A person looks at it first; without any there is no reason."""
    queue = place.connect()
    assert (await queue.depth()).dead_reason == ""
    for reason in ("an older one", "the newest"):
        await queue.publish(b"x")
        await (await within(5, queue.receive)).dead_letter(reason)
    await holds(queue, dead=2)
    assert (await queue.depth()).dead_reason == "the newest"


async def test_a_cancelled_receive_takes_nothing(queue: Consumer) -> None:
    """Wherever the cancellation hits: a message is given to somebody or still there."""
    await use(queue)
    held = published = 0
    with trio.fail_after(60):
        while published < 40 or held == 0:
            delivery = None
            await queue.publish(b"x")
            with trio.move_on_after(0.0002 * published):
                delivery = await queue.receive()
            published += 1
            held += delivery is not None
    await holds(queue, unacknowledged=held, ready=published - held)
    assert held < published


async def test_a_stopping_consumer_gives_back(place: Place) -> None:
    """What it holds goes to another, who did not have to wait for a timeout."""
    stopping, staying = place.connect(), place.connect()
    await stopping.publish(b"x")
    await within(5, stopping.receive)
    await stopping.aclose()
    delivery = await within(5, staying.receive)
    assert (delivery.body, delivery.redelivered) == (b"x", True)


@pytest.mark.parametrize("ending", ["ack", "put_back", "dead_letter"])
async def test_an_ending_that_comes_too_late(place: Place, ending: str) -> None:
    """A consumer that was cut off ends nothing of what another one has by then, and is not told."""
    cut_off, other = place.connect(), place.connect()
    await cut_off.publish(b"x")
    late = await within(5, cut_off.receive)
    place.cut()
    delivery = await within(5, other.receive)
    await end(late, ending)
    await holds(other, unacknowledged=1)
    await delivery.ack()
    await holds(other)


@pytest.mark.parametrize("ending", ["ack", "put_back", "dead_letter"])
async def test_a_message_that_comes_back_to_its_holder(place: Place, ending: str) -> None:
    """All slots of a consumer were busy when it was cut off, so nobody noticed. It is given again
    what it had, as another delivery: ending the void one leaves that alone."""
    holder, other = place.connect(), place.connect()
    await holder.publish(b"x")
    void = await within(5, holder.receive)
    place.cut()
    delivery = await within(5, lambda: insist(holder))
    assert (delivery.body, delivery.redelivered) == (b"x", True)
    await end(void, ending)
    await nothing_comes(other)
    await holds(other, unacknowledged=1)
    await holder.aclose()
    assert (await within(5, other.receive)).body == b"x"


async def test_a_consumer_that_was_cut_off_takes_for_good(place: Place) -> None:
    """What it takes next is its own, and not a dead one's that others may have as well."""
    holder, other = place.connect(), place.connect()
    await use(holder)
    await holds(holder)
    place.cut()
    await other.publish(b"x")
    delivery = await within(5, lambda: insist(holder))
    assert (delivery.body, delivery.redelivered) == (b"x", False)
    await nothing_comes(other, for_s=1.5 * embedded.LOOK_S)
    await delivery.ack()
    await holds(other)


@pytest.mark.parametrize("ending", ["ack", "put_back", "dead_letter"])
async def test_a_delivery_ends_once(place: Place, ending: str) -> None:
    """Whoever put a message back, and is given it again, ends it by the newer delivery alone."""
    queue = place.connect()
    await queue.publish(b"x")
    older = await within(5, queue.receive)
    await older.put_back(0.0)
    await within(5, queue.receive)
    await end(older, ending)
    await holds(queue, unacknowledged=1)
    await queue.aclose()
    assert (await within(5, place.connect().receive)).body == b"x"


async def test_a_waiting_receiver_survives_a_cut(place: Place) -> None:
    """When the server ends the connection of a receiver that waits, it connects again by itself."""
    waiting, publishing = place.connect(), place.connect()
    received = trio.Event()

    async def receive() -> None:
        await insist(waiting)
        received.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await trio.sleep(0.1)
        place.cut()
        await publishing.publish(b"x")
        with trio.fail_after(5):
            await received.wait()


async def test_a_killed_consumer_gives_back(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """kill -9 of a process that holds a message: another consumer has it within two seconds. One of
    them is until its next look, which here leaves this machine more."""
    look_every(0.2, monkeypatch)
    queue = place.connect()
    await queue.publish(b"x")
    process = subprocess.Popen(  # noqa: ASYNC220  # starts at once, and its pipe is read in a thread
        [sys.executable, "-c", place.consumer_program], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert await trio.to_thread.run_sync(process.stdout.readline) == "have x\n"
        await nothing_comes(queue)
        os.kill(process.pid, signal.SIGKILL)
        delivery = await within(2, queue.receive)
        assert (delivery.body, delivery.redelivered) == (b"x", True)
    finally:
        process.kill()
        process.communicate()
