"""The ledger's server is killed or frozen: peers wait, it comes back, and nothing is lost."""

from __future__ import annotations

import os
import random
import shutil
import signal
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TypeVar
from uuid import UUID, uuid4

import psutil
import pytest
import trio

from pipeline.errors import LedgerUnavailable, Unavailable
from pipeline.events import (
    TaskDetailsRetrieved,
    TranscodedVideoUploaded,
    VideoFilePulled,
    VideoTranscoded,
    WorkloadProcessingStarted,
)
from pipeline.ledger.claims import Rules
from pipeline.ledger.connections import Connection
from pipeline.ledger.database import Database, DatabaseConfig
from pipeline.ledger.postgres import PostgresLedger
from pipeline.ledger.server import EmbeddedServer, ServerConfig
from pipeline.messages import WakeUp, decode_untrusted, encode
from pipeline.ports import Depth, Submission
from pipeline.queues.embedded import EmbeddedQueue
from pipeline.sweeper import Sweeper
from pipeline.tasks import STEP_EVENTS, Busy, Claim, Product, ProductKind, TaskState
from tests.ledger_rig import MakeLedger, MakePeer, Peer

T = TypeVar("T")

TASKS = 30
PEERS = 4
KILL_AT = (5, 12, 19)
RECOVERY_S = 5.0
EMPTY = Depth(ready=0, unacknowledged=0, delayed=0, dead=0)
LEASE_S = 1.5
PRODUCT = Product(kind=ProductKind.POSTER, name="poster.jpg", size=1)


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

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """As a machine that sleeps: everything is there, and nothing answers."""
        postmaster = psutil.Process(int(self._pid_file.read_text().split()[0]))
        postmaster.suspend()
        processes = [postmaster, *postmaster.children()]
        for process in processes[1:]:
            process.suspend()
        try:
            yield
        finally:
            for process in processes:
                process.resume()


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
        for event in (
            TaskDetailsRetrieved(task_id=task_id, source="clip", ladder="web"),
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


@contextmanager
def away_killed(server: Server) -> Iterator[None]:
    server.kill()
    yield
    server.embedded.ensure()


@contextmanager
def away_frozen(server: Server) -> Iterator[None]:
    with server.frozen():
        yield


@contextmanager
def away_unreachable(_: Server) -> Iterator[None]:
    async def run(*_: object, **__: object) -> None:
        raise LedgerUnavailable("no route to host", definite=True)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Database, "run", run)
        yield


@pytest.mark.parametrize("away", [away_killed, away_frozen, away_unreachable])
async def test_an_outage_longer_than_a_lease(
    server: Server,
    database: Database,
    rules: Rules,
    make_peer: MakePeer,
    make_submission: Callable[[], Submission],
    away: Callable[[Server], AbstractContextManager[None]],
) -> None:
    """Holders get the time to renew before anybody takes over; the silent are found afterwards."""
    ledger = PostgresLedger(database, lease_s=LEASE_S, expiry=rules.expiry, recorder=rules.recorder)
    queue = EmbeddedQueue(database)
    await ledger.prepare()
    submission = make_submission()
    task_id = submission.task_id
    await ledger.submit(submission)
    ada, bob = make_peer("ada"), make_peer("bob")
    claim = await ledger.claim(task_id, 0, ada.holder, uuid4(), ada.received(task_id))
    assert isinstance(claim, Claim)

    async with trio.open_nursery() as sweeping:
        sweeping.start_soon(Sweeper(sweep=ledger, queue=queue, rng=random.Random(0)).run)
        began = trio.current_time()
        while trio.current_time() < began + 1.2 * LEASE_S:  # nothing is odd about this ledger
            await ledger.renew(claim, None)
            await trio.sleep(LEASE_S / 5)
        with away(server):
            await trio.sleep(1.2 * LEASE_S)

        assert await patiently(ledger.expire_leases) == []
        answer = await patiently(
            lambda: ledger.claim(task_id, 0, bob.holder, uuid4(), bob.received(task_id))
        )
        assert isinstance(answer, Busy)
        assert answer.why == "the ledger was away, and peer ada may renew its lease now"
        await patiently(lambda: ledger.renew(claim, None))
        report = await ledger.show_task(str(task_id))
        assert (report.holder, dict(report.failures)) == ("ada", {})

        with trio.fail_after(20):  # ada says no more
            while report.holder is not None:
                await trio.sleep(LEASE_S / 20)
                report = await patiently(lambda: ledger.show_task(str(task_id)))
        assert dict(report.failures) == {"crash": 1}
        sweeping.cancel_scope.cancel()
    await queue.aclose()


async def test_a_claim_outlives_connections_that_are_half_dead(
    server: Server,
    database: Database,
    rules: Rules,
    make_peer: MakePeer,
    make_submission: Callable[[], Submission],
) -> None:
    """When no connection of the pool is answered any more, the lease is renewed on a new one."""
    ledger = PostgresLedger(database, lease_s=LEASE_S, expiry=rules.expiry, recorder=rules.recorder)
    await ledger.prepare()
    submission = make_submission()
    await ledger.submit(submission)
    ada = make_peer("ada")
    received = ada.received(submission.task_id)
    claim = await ledger.claim(submission.task_id, 0, ada.holder, uuid4(), received)
    assert isinstance(claim, Claim)
    pids: set[int] = set()
    all_at_once = threading.Barrier(database.config.connections_max, timeout=20)

    def note_pid(connection: Connection) -> None:
        all_at_once.wait()  # so that each call has one of its own
        pids.add(connection.info.backend_pid)

    async with trio.open_nursery() as nursery:
        for _ in range(database.config.connections_max):
            nursery.start_soon(database.run, note_pid)
    await ledger.renew(claim, None)
    sessions = [psutil.Process(pid) for pid in pids]
    for session in sessions:
        session.suspend()
    try:
        with trio.fail_after(LEASE_S):
            await patiently(lambda: ledger.renew(claim, None))
    finally:
        for session in sessions:
            session.resume()
    assert len(pids) == database.config.connections_max


async def test_a_peer_that_must_end_does_not_wait_for_a_frozen_server(server: Server) -> None:
    """Calls at work, calls that connect and calls that wait for their turn all end in time."""
    database = Database(
        # Nothing else ends a call before the bounds below.
        DatabaseConfig(conninfo=server.conninfo, connections_max=2, connect_timeout_s=30),
        on_unavailable=server.embedded.ensure,
    )

    def ask(connection: Connection) -> None:
        connection.execute("SELECT 1")

    await database.run(ask)  # leaves one connection
    errors: list[LedgerUnavailable] = []

    async def call() -> None:
        with pytest.raises(LedgerUnavailable) as caught:
            await database.run(ask)
        errors.append(caught.value)

    with server.frozen():
        with trio.fail_after(8):
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(call)
                await trio.sleep(0.3)  # let them get as far as they can
                assert not errors
                database.stop_within(0.3)
        with trio.fail_after(5):
            await call()
        with trio.fail_after(5):
            await database.aclose()

    assert [error.definite for error in errors] == [True] * 4
    assert sorted(error.message for error in errors) == [
        "the ledger's database did not answer before this peer's end",
        *["this peer is stopping and waits no longer"] * 3,
    ]
