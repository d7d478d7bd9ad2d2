"""What every queue promises. One suite over all of them: another queue is one more factory.

A factory connects one consumer, as a peer of its own would be; and `consumer_program` is Python
that takes one message in another process, says so, and holds it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

import psycopg
import pytest
import trio

from pipeline.errors import LedgerUnavailable, QueueUnavailable
from pipeline.ledger.database import Database, DatabaseConfig
from pipeline.ports import Delivery, Depth, TaskQueue
from pipeline.queues.embedded import LOOK_S, EmbeddedQueue


class Consumer(TaskQueue, Protocol):
    """A queue, and how a peer that stops leaves it."""

    async def aclose(self) -> None: ...


@dataclass(slots=True)
class Place:
    """One queue somewhere, to which consumers connect."""

    connect: Callable[[], Consumer]
    consumer_program: str
    cut: Callable[[], None]
    """End the connections of all consumers, as a restart of the server does."""


EMBEDDED_CONSUMER = """
import trio
from pipeline.ledger.database import Database, DatabaseConfig
from pipeline.queues.embedded import EmbeddedQueue

async def main():
    queue = EmbeddedQueue(Database(DatabaseConfig(conninfo={conninfo!r})))
    delivery = await queue.receive()
    print("have", delivery.body.decode(), flush=True)
    await trio.sleep_forever()

trio.run(main)
"""


@pytest.fixture(params=["embedded"])
async def place(request: pytest.FixtureRequest, ledger_url: str) -> AsyncIterator[Place]:
    """A queue of each kind."""
    assert request.param == "embedded"
    consumers: list[EmbeddedQueue] = []
    databases: list[Database] = []

    def connect() -> EmbeddedQueue:
        databases.append(Database(DatabaseConfig(conninfo=ledger_url)))
        consumers.append(EmbeddedQueue(databases[-1]))
        return consumers[-1]

    def cut() -> None:
        with psycopg.connect(ledger_url) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )

    yield Place(connect, EMBEDDED_CONSUMER.format(conninfo=ledger_url), cut)
    for consumer in consumers:
        await consumer.aclose()
    for database in databases:
        await database.aclose()


@pytest.fixture
def queue(place: Place) -> Consumer:
    """A consumer, where one is enough."""
    return place.connect()


async def within(seconds: float, call: Callable[[], Awaitable[Delivery]]) -> Delivery:
    with trio.fail_after(seconds):
        return await call()


async def nothing_comes(queue: Consumer, for_s: float = 0.15) -> None:
    with trio.move_on_after(for_s) as scope:
        await queue.receive()
    assert scope.cancelled_caught


async def test_first_in_first_out(queue: Consumer) -> None:
    """Messages come as they were published, in their order, whatever bytes they are."""
    bodies = [b"1", b"", b"\0\xff", "ü".encode(), b"x" * 100_000]
    for body in bodies:
        await queue.publish(body)
    deliveries = [await within(2, queue.receive) for _ in bodies]
    assert [delivery.body for delivery in deliveries] == bodies
    assert not any(delivery.redelivered for delivery in deliveries)


async def test_a_waiting_receiver_is_woken(place: Place) -> None:
    """A message that is published to an idle consumer arrives at once, not at its next look."""
    waiting, publishing = place.connect(), place.connect()
    got = []

    async def receive() -> None:
        delivery = await waiting.receive()
        got.append((delivery.body, trio.current_time()))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await trio.sleep(0.1)  # it must be idle: only time tells
        published = trio.current_time()
        await publishing.publish(b"x")
    assert got[0][0] == b"x"
    assert got[0][1] - published < LOOK_S / 2


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
    assert await queue.depth() == Depth(ready=0, unacknowledged=8, delayed=0, dead=0)


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
    delivery = await within(2, queue.receive)
    assert await queue.depth() == Depth(ready=0, unacknowledged=1, delayed=0, dead=0)
    await delivery.ack()
    await delivery.ack()
    assert await queue.depth() == Depth(ready=0, unacknowledged=0, delayed=0, dead=0)
    await nothing_comes(queue)


async def test_put_back_at_once(place: Place) -> None:
    """It comes to another consumer that waits, as something that was delivered before."""
    first, second = place.connect(), place.connect()
    await first.publish(b"x")
    delivery = await within(2, first.receive)
    got = []

    async def receive() -> None:
        got.append(await within(LOOK_S / 2, second.receive))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await trio.sleep(0.05)
        await delivery.put_back(0.0)
    assert (got[0].body, got[0].redelivered) == (b"x", True)


@pytest.mark.parametrize("how", ["publish", "put_back"])
async def test_a_delay_is_kept_exactly(queue: Consumer, how: str) -> None:
    """A delayed message comes at its time: not before, and not only at the next look."""
    delay_s = 0.3
    if how == "put_back":
        await queue.publish(b"x")
        delivery = await within(2, queue.receive)
        begun = trio.current_time()
        await delivery.put_back(delay_s)
    else:
        begun = trio.current_time()
        await queue.publish(b"x", delay_s=delay_s)
    assert (await queue.depth()).delayed == 1
    await within(2, queue.receive)
    assert delay_s <= trio.current_time() - begun < delay_s + 0.3


async def test_a_delay_that_begins_during_the_wait(queue: Consumer) -> None:
    """A receiver that waits already comes to know of a message that this peer has delayed."""
    async with trio.open_nursery() as nursery:

        async def publish() -> None:
            await trio.sleep(0.05)
            await queue.publish(b"x", delay_s=0.2)

        nursery.start_soon(publish)
        begun = trio.current_time()
        await within(2, queue.receive)
    assert 0.2 <= trio.current_time() - begun < 0.6


async def test_dead_letters_stay_aside(place: Place) -> None:
    """A message that was set aside is kept and never delivered again, to nobody."""
    queue = place.connect()
    await queue.publish(b"not json")
    delivery = await within(2, queue.receive)
    await delivery.dead_letter("the message is not \0 JSON")
    await delivery.put_back(0.0)
    depth = await queue.depth()
    assert (depth.ready, depth.unacknowledged, depth.delayed, depth.dead) == (0, 0, 0, 1)
    assert "JSON" in depth.dead_reason
    await nothing_comes(place.connect())


async def test_the_newest_dead_letters_reason_is_told(place: Place) -> None:
    """A person looks at it first; without any there is no reason."""
    queue = place.connect()
    assert (await queue.depth()).dead_reason == ""
    for reason in ("an older one", "the newest"):
        await queue.publish(b"x")
        await (await within(2, queue.receive)).dead_letter(reason)
    assert (await queue.depth()).dead_reason == "the newest"


async def test_a_cancelled_receive_takes_nothing(queue: Consumer) -> None:
    """Wherever the cancellation hits: a message is given to somebody or still there."""
    held = 0
    for attempt in range(40):
        await queue.publish(b"x")
        delivery = None
        with trio.move_on_after(0.0002 * attempt):
            delivery = await queue.receive()
        held += delivery is not None
    depth = await queue.depth()
    assert (depth.unacknowledged, depth.ready) == (held, 40 - held)
    assert 0 < held < 40


async def test_a_stopping_consumer_gives_back(place: Place) -> None:
    """What it holds goes to another, who did not have to wait for a timeout."""
    stopping, staying = place.connect(), place.connect()
    await stopping.publish(b"x")
    await within(2, stopping.receive)
    await stopping.aclose()
    delivery = await within(2, staying.receive)
    assert (delivery.body, delivery.redelivered) == (b"x", True)


@pytest.mark.parametrize("ending", ["ack", "put_back", "dead_letter"])
async def test_an_ending_that_comes_too_late(place: Place, ending: str) -> None:
    """A consumer that was cut off ends nothing of what another one has by then, and is not told."""
    cut_off, other = place.connect(), place.connect()
    await cut_off.publish(b"x")
    late = await within(2, cut_off.receive)
    place.cut()
    delivery = await within(3, other.receive)
    endings: dict[str, Callable[[], Awaitable[None]]] = {
        "ack": late.ack,
        "put_back": lambda: late.put_back(0.0),
        "dead_letter": lambda: late.dead_letter("late"),
    }
    await endings[ending]()
    assert await other.depth() == Depth(ready=0, unacknowledged=1, delayed=0, dead=0)
    await delivery.ack()
    assert await other.depth() == Depth(ready=0, unacknowledged=0, delayed=0, dead=0)


async def test_a_waiting_receiver_survives_a_cut(place: Place) -> None:
    """When the server ends the connection of a receiver that waits, it connects again by itself."""
    waiting, publishing = place.connect(), place.connect()

    async def receive() -> None:
        while True:
            try:
                await waiting.receive()
                return
            except QueueUnavailable:
                await trio.sleep(0.01)

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            await trio.sleep(0.1)
            place.cut()
            await publishing.publish(b"x")


async def test_a_killed_consumer_gives_back(place: Place) -> None:
    """kill -9 of a process that holds a message: another consumer has it within two seconds."""
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


@pytest.fixture
def lose_an_answer(database: Database, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Let the next call to the database do its work, and fail all the same."""
    lost: list[bool] = []
    run = database.run

    async def lossy(work: Callable[..., object]) -> object:
        result = await run(work)
        if lost:
            lost.clear()
            raise LedgerUnavailable("the connection was cut at COMMIT", definite=False)
        return result

    monkeypatch.setattr(database, "run", lossy)
    return lambda: lost.append(True)


async def test_a_delivery_that_gets_lost(
    database: Database, place: Place, lose_an_answer: Callable[[], None]
) -> None:
    """A message that was taken, though the answer never came, goes to somebody, soon."""
    queue, other = EmbeddedQueue(database), place.connect()
    await queue.publish(b"lost")
    await queue.publish(b"next")
    lose_an_answer()
    with pytest.raises(QueueUnavailable):
        await within(2, queue.receive)

    bodies = {(await within(2, each.receive)).body for each in (queue, other)}

    assert bodies == {b"lost", b"next"}
    await queue.aclose()


@pytest.mark.parametrize("ending", ["ack", "put_back", "dead_letter"])
async def test_an_ending_that_fails(
    database: Database, place: Place, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    """What cannot be ended is not stranded with a consumer that lives on; others get it again."""
    queue, other = EmbeddedQueue(database), place.connect()
    await queue.publish(b"x")
    delivery = await within(2, queue.receive)
    endings: dict[str, Callable[[], Awaitable[None]]] = {
        "ack": delivery.ack,
        "put_back": lambda: delivery.put_back(0.0),
        "dead_letter": lambda: delivery.dead_letter("no"),
    }

    async def away(_: object) -> None:
        raise LedgerUnavailable("too many clients already", definite=True)

    with monkeypatch.context() as patch:
        patch.setattr(database, "run", away)
        with pytest.raises(QueueUnavailable):
            await endings[ending]()

    again = await within(2, other.receive)
    assert (again.body, again.redelivered) == (b"x", True)
    await again.ack()
    await nothing_comes(queue)  # it is a consumer still, of another number
    await queue.publish(b"y")
    assert (await within(2, queue.receive)).body == b"y"
    await queue.aclose()


async def test_an_ending_that_fails_beside_a_receiver(
    database: Database, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slot that waits for a message does not suffer when another one's ending fails."""
    queue, publishing = EmbeddedQueue(database), place.connect()
    await queue.publish(b"x")
    delivery = await within(2, queue.receive)
    got: list[bytes] = []

    async def receive() -> None:
        while b"y" not in got:
            got.append((await queue.receive()).body)

    async def away(_: object) -> None:
        raise LedgerUnavailable("too many clients already", definite=True)

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            await trio.sleep(0.1)  # it must wait at the session: only time tells
            with monkeypatch.context() as patch:
                patch.setattr(database, "run", away)
                with pytest.raises(QueueUnavailable):
                    await delivery.ack()
            await publishing.publish(b"y")
    assert set(got) == {b"x", b"y"}
    await queue.aclose()


@pytest.fixture
def looks(database: Database, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When the database was asked for something."""
    times: list[float] = []
    run = database.run

    async def counted(work: Callable[..., object]) -> object:
        times.append(trio.current_time())
        return await run(work)

    monkeypatch.setattr(database, "run", counted)
    return times


async def test_an_idle_consumer_sleeps(database: Database, looks: list[float]) -> None:
    """Without news, an embedded consumer asks the server once a second at most."""
    queue = EmbeddedQueue(database)
    await nothing_comes(queue, for_s=2.5 * LOOK_S)
    assert len(looks) == 3
    await queue.aclose()


async def test_a_message_in_a_strangers_transaction(
    database: Database, looks: list[float], ledger_url: str
) -> None:
    """A due message that a frozen peer is just taking makes nobody look in circles."""
    queue = EmbeddedQueue(database)
    await queue.publish(b"x")
    with psycopg.connect(ledger_url) as connection:
        connection.execute("SELECT 1 FROM queue_messages FOR UPDATE")
        looks.clear()
        await nothing_comes(queue, for_s=0.5)
        assert len(looks) <= 2
    assert (await within(2, queue.receive)).body == b"x"
    await queue.aclose()


async def test_no_server(ledger_url: str) -> None:
    """Every call says that the queue is away, and whether it may have happened."""
    nowhere = psycopg.conninfo.make_conninfo(ledger_url, host="/nonexistent")
    queue = EmbeddedQueue(Database(DatabaseConfig(conninfo=nowhere)))
    for call in (queue.receive, queue.depth, lambda: queue.publish(b"x")):
        with pytest.raises(QueueUnavailable, match="No such file") as caught:
            await call()
        assert caught.value.definite
