"""What the embedded queue promises beside what every queue does (`test_queue.py`): it shares a
server and its pool of connections with the ledger, and a consumer is a session of its own there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from itertools import pairwise

import psycopg
import pytest
import trio

from pipeline.errors import LedgerUnavailable, QueueUnavailable
from pipeline.ledger.database import Database, DatabaseConfig
from pipeline.queues.embedded import LOOK_S, EmbeddedQueue
from tests.contract.queue_places import Place, embedded_place, end, nothing_comes, within


@pytest.fixture
async def embedded(ledger_url: str) -> AsyncIterator[Place]:
    """To which consumers connect."""
    async with embedded_place(ledger_url) as place:
        yield place


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
    database: Database, embedded: Place, lose_an_answer: Callable[[], None]
) -> None:
    """A message that was taken, though the answer never came, goes to somebody, soon."""
    queue, other = EmbeddedQueue(database), embedded.connect()
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
    database: Database, embedded: Place, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    """What cannot be ended is not stranded with a consumer that lives on; others get it again."""
    queue, other = EmbeddedQueue(database), embedded.connect()
    await queue.publish(b"x")
    delivery = await within(2, queue.receive)

    async def away(_: object) -> None:
        raise LedgerUnavailable("too many clients already", definite=True)

    with monkeypatch.context() as patch:
        patch.setattr(database, "run", away)
        with pytest.raises(QueueUnavailable):
            await end(delivery, ending)

    again = await within(2, other.receive)
    assert (again.body, again.redelivered) == (b"x", True)
    await again.ack()
    await nothing_comes(queue)  # it is a consumer still, of another number
    await queue.publish(b"y")
    assert (await within(2, queue.receive)).body == b"y"
    await queue.aclose()


async def test_an_ending_that_fails_beside_a_receiver(
    database: Database, embedded: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slot that waits for a message does not suffer when another one's ending fails."""
    queue, publishing = EmbeddedQueue(database), embedded.connect()
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
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(queue.receive)
            while len(looks) < 4:  # noqa: ASYNC110 - it tells nobody
                await trio.sleep(0.05)
            nursery.cancel_scope.cancel()
    assert all(later - earlier > 0.9 * LOOK_S for earlier, later in pairwise(looks))
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
