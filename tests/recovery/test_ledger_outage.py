"""The ledger's server is killed under load: peers wait, it is started again, nothing is lost."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol, TypeVar
from uuid import UUID, uuid4

import pytest
import trio

from pipeline.errors import LedgerUnavailable, Unavailable
from pipeline.events import (
    Record,
    Recordable,
    TaskDetailsRetrieved,
    TranscodedVideoUploaded,
    VideoFilePulled,
    VideoTranscoded,
    WorkloadProcessingStarted,
)
from pipeline.ledger.database import Database, DatabaseConfig
from pipeline.ledger.postgres import PostgresLedger
from pipeline.ledger.server import EmbeddedServer, ServerConfig
from pipeline.messages import WakeUp, decode_untrusted, encode
from pipeline.ports import Depth, Submission
from pipeline.queues.embedded import EmbeddedQueue
from pipeline.tasks import STEP_EVENTS, Busy, Claim, Holder, Product, ProductKind, TaskState

T = TypeVar("T")

TASKS = 30
PEERS = 4
KILL_AT = (5, 12, 19)
RECOVERY_S = 5.0
EMPTY = Depth(ready=0, unacknowledged=0, delayed=0, dead=0)
PRODUCT = Product(kind=ProductKind.POSTER, name="poster.jpg", size=1)


class Peer(Protocol):
    """What `make_peer` makes."""

    holder: Holder

    def record(self, event: Recordable) -> Record: ...
    def received(self, task_id: UUID) -> Record: ...
    def finished(self, task_id: UUID) -> Record: ...


MakePeer = Callable[[str], Peer]
MakeLedger = Callable[[Database], PostgresLedger]


class Server:
    """A server that can be killed."""

    def __init__(self, directory: Path) -> None:
        self.embedded = EmbeddedServer(ServerConfig(directory=directory, fsync=False))
        self.conninfo = self.embedded.join()
        self._pid_file = directory / "data" / "postmaster.pid"

    def kill(self) -> bool:
        """As the kernel does when memory runs out; false when it is still dead from the last time.

        (A session may outlive its server for as long as its client keeps it busy.)
        """
        try:
            os.kill(int(self._pid_file.read_text().split()[0]), signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True


@pytest.fixture
def server() -> Iterator[Server]:
    """A server of this test's own."""
    top = Path(tempfile.mkdtemp(prefix="grapevine-"))
    top.chmod(0o711)  # the server may be another user's
    try:
        server = Server(top / "ledger")
        yield server
        server.embedded.leave()
    finally:
        shutil.rmtree(top, ignore_errors=True)


@pytest.fixture
async def database(server: Server) -> AsyncIterator[Database]:
    """A pool that does nothing about an outage."""
    database = Database(DatabaseConfig(conninfo=server.conninfo))
    yield database
    await database.aclose()


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """Repeat a call that may be repeated, as the worker does."""
    while True:
        try:
            return await call()
        except Unavailable:
            await trio.sleep(0.02)


async def until_it_fails(call: Callable[[], Awaitable[object]]) -> None:
    """Repeat a call: for a moment an old connection may still be served."""
    with suppress(LedgerUnavailable):
        while True:
            await call()


async def test_calls_fail_at_once_and_work_at_once_again(
    server: Server,
    database: Database,
    make_ledger: MakeLedger,
    make_submission: Callable[[], Submission],
) -> None:
    """While the server is away a call says so without waiting; the first call afterwards works."""
    ledger = make_ledger(database)
    await ledger.prepare()
    before = make_submission()
    await ledger.submit(before)
    server.kill()

    with trio.fail_after(5):
        await until_it_fails(lambda: ledger.list_tasks(None, 10))
    for _ in range(3):
        with pytest.raises(LedgerUnavailable), trio.fail_after(1):
            await ledger.list_tasks(None, 10)
    await trio.to_thread.run_sync(server.embedded.ensure)

    with trio.fail_after(RECOVERY_S):
        assert [report.id for report in await ledger.list_tasks(None, 10)] == [before.task_id]


async def test_the_first_who_notices_starts_it_again(
    server: Server,
    make_ledger: MakeLedger,
    make_submission: Callable[[], Submission],
) -> None:
    """With the hook, many calls at once survive the server's death without a single error."""
    database = Database(
        DatabaseConfig(conninfo=server.conninfo), on_unavailable=server.embedded.ensure
    )
    ledger = make_ledger(database)
    await ledger.prepare()
    await ledger.submit(make_submission())
    server.kill()

    with trio.fail_after(RECOVERY_S):
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(ledger.list_tasks, None, 10)
    await database.aclose()


class Load:
    """Peers that work off all tasks, and kill the server while they are at it."""

    def __init__(self, server: Server, make_ledger: MakeLedger, make_peer: MakePeer) -> None:
        self.done: set[UUID] = set()
        self.outages: list[float] = []
        self._server = server
        self._make_ledger = make_ledger
        self._make_peer = make_peer
        self._kills = iter(KILL_AT)
        self._next_kill: int | None = next(self._kills)
        self._killed_at: float | None = None

    async def run(self, name: str) -> None:
        """Be one peer until everything is done."""
        database = Database(
            DatabaseConfig(conninfo=self._server.conninfo),
            on_unavailable=self._server.embedded.ensure,
        )
        ledger, queue = self._make_ledger(database), EmbeddedQueue(database)
        peer = self._make_peer(name)
        try:
            while len(self.done) < TASKS or await patiently(queue.depth) != EMPTY:
                with trio.move_on_after(0.5):
                    await self._take_one(ledger, queue, peer)
        finally:
            with trio.CancelScope(shield=True):
                await queue.aclose()
                await database.aclose()

    async def _take_one(self, ledger: PostgresLedger, queue: EmbeddedQueue, peer: Peer) -> None:
        delivery = await patiently(queue.receive)
        with trio.CancelScope(shield=True):
            task_id = decode_untrusted(delivery.body).task_id
            token, received = uuid4(), peer.received(task_id)
            answer = await patiently(lambda: ledger.claim(task_id, 0, peer.holder, token, received))
            match answer:
                case Claim():
                    await self._work(ledger, peer, answer)
                    await patiently(delivery.ack)
                case Busy():
                    await patiently(lambda: delivery.put_back(0.05))
                case _:
                    await patiently(delivery.ack)

    async def _work(self, ledger: PostgresLedger, peer: Peer, claim: Claim) -> None:
        task_id = claim.task_id
        details = peer.record(TaskDetailsRetrieved(task_id=task_id, source="clip", ladder="web"))
        await patiently(lambda: ledger.retrieve_details(claim, lambda _: details))
        for event in (
            VideoFilePulled(task_id=task_id, size=1, seconds=0.1),
            WorkloadProcessingStarted(task_id=task_id),
            VideoTranscoded(task_id=task_id, renditions=(), seconds=0.1, cpu_seconds=0.1),
            TranscodedVideoUploaded(task_id=task_id, prefix=claim.prefix, files=1, size=1),
        ):
            record = peer.record(event)
            await patiently(lambda record=record: ledger.advance(claim, record))  # type: ignore[misc]  # mypy does not see through the default
        self._kill_when_it_is_time()
        finished = peer.finished(task_id)
        await patiently(lambda: ledger.finish(claim, [PRODUCT], ["as is"], finished))
        self.done.add(task_id)
        if self._killed_at is not None:
            self.outages.append(trio.current_time() - self._killed_at)
            self._killed_at = None

    def _kill_when_it_is_time(self) -> None:
        """While this peer, and others, have something to write."""
        is_time = self._next_kill is not None and len(self.done) >= self._next_kill
        if is_time and self._server.kill():
            self._killed_at = trio.current_time()
            self._next_kill = next(self._kills, None)


async def test_nothing_is_lost_or_doubled(
    server: Server,
    database: Database,
    make_ledger: MakeLedger,
    make_peer: MakePeer,
    make_submission: Callable[[], Submission],
) -> None:
    """Killed three times under load, the ledger has every task done once, told of in every step."""
    ledger = make_ledger(database)
    await ledger.prepare()
    queue = EmbeddedQueue(database)
    submitted = [make_submission() for _ in range(TASKS)]
    for submission in submitted:
        await ledger.submit(submission)
        await queue.publish(encode(WakeUp(task_id=submission.task_id)))
    load = Load(server, make_ledger, make_peer)

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for number in range(PEERS):
                nursery.start_soon(load.run, f"peer {number}")

    assert len(load.outages) >= 2
    assert max(load.outages) < RECOVERY_S
    assert load.done == {submission.task_id for submission in submitted}
    for task_id in load.done:
        report = await patiently(lambda task_id=task_id: ledger.show_task(str(task_id)))  # type: ignore[misc]  # mypy does not see through the default
        assert (report.state, report.attempt) == (TaskState.DONE, 1)
        assert report.warnings == ("as is",)
        assert [output.name for output in report.outputs] == ["poster.jpg"]
        events = await ledger.list_events(task_id=task_id, type=None, after_id=0, limit=100)
        assert [event.type for event in events] == list(STEP_EVENTS.values())
