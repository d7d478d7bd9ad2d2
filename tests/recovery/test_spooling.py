"""The ledger's server is killed while work goes on: the encode ends, and its events arrive later.

On a server by TCP that nobody starts again but the tests, as with a database by URL.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
import trio

from peer.events import decode_event
from pipeline.errors import ClaimLost, LedgerUnavailable
from pipeline.events import (
    TaskDetailsRetrieved,
    VideoFilePulled,
    VideoTranscoded,
    WorkloadProcessingStarted,
)
from pipeline.ledger.database import Database, DatabaseConfig
from pipeline.ledger.postgres import PostgresLedger
from pipeline.ports import Order, Submission
from pipeline.spool import Spool
from pipeline.spooling import SpoolingLedger
from pipeline.tasks import Claim, TaskState
from tests.e2e.worker_rig import GOOD_WAY, PATIENCE_S, Rig, ScriptedTranscoder
from tests.servers.postgres import PostgresServer, public_directory


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """One server for all of these; each test leaves it running."""
    with public_directory() as directory:
        server = PostgresServer(directory / "ledger")
        server.start()
        yield server
        server.stop()


@pytest.fixture
async def rig(server: PostgresServer, tmp_path: Path, make_ledger: Any) -> AsyncIterator[Rig]:
    """A ledger, a queue and a store."""
    server.start()
    name = f"test_{uuid4().hex}"
    with psycopg.connect(server.conninfo, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}".encode())
    database = Database(DatabaseConfig(conninfo=server.url_of(name)))
    ledger = make_ledger(database)
    await ledger.prepare()
    rig = Rig(tmp_path, server.url_of(name), database, ledger)
    yield rig
    await rig.queue.aclose()
    await database.aclose()


def spooling_over(ledger: PostgresLedger, directory: Path) -> SpoolingLedger:
    """As a peer has it."""
    return SpoolingLedger(
        ledger,
        Spool(directory),
        decode=decode_event,
        rng=random.Random(0),
        pause_max_s=0.05,
    )


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    with trio.fail_after(PATIENCE_S):
        while not await condition():  # noqa: ASYNC110 - what is waited for is another process
            await trio.sleep(0.01)


async def test_an_encode_goes_on_to_its_end(
    server: PostgresServer, rig: Rig, tmp_path: Path, make_peer: Any
) -> None:
    """Killed in the middle of it, the ledger misses nothing: the outputs are uploaded while it is
    away, only the commit waits, and then all events are there, in their order, once."""
    spooling = spooling_over(rig.ledger, tmp_path / "spool")

    async def lose_the_ledger(_: Order) -> None:
        await trio.to_thread.run_sync(server.kill)

    async with trio.open_nursery() as services:
        services.start_soon(spooling.run)
        transcoder = ScriptedTranscoder(lose_the_ledger)
        async with rig.working(transcoder, make_peer("one"), ledger=spooling):
            task_id = await rig.submit()
            output = f"tasks/{task_id}/attempt-1/360p.mp4"

            async def is_uploaded() -> bool:
                return spooling.spooled == 2 and output in await rig.stored(task_id)

            await eventually(is_uploaded)
            with pytest.raises(LedgerUnavailable):
                await rig.ledger.show_task(str(task_id))
            await trio.to_thread.run_sync(server.start)
            report = await rig.settled(task_id)
            story = await rig.story(task_id)
        services.cancel_scope.cancel()

    assert (report.state, report.attempt, dict(report.failures)) == (TaskState.DONE, 1, {})
    assert story == GOOD_WAY
    assert (spooling.spooled, list((tmp_path / "spool").iterdir())) == (0, [])


class Told:
    """A claim whose first steps were told, the last two of them to a ledger that was away."""

    def __init__(self, claim: Claim, peer: Any) -> None:
        self.claim = claim
        self.peer = peer

    @classmethod
    async def make(
        cls, rig: Rig, server: PostgresServer, spooling: SpoolingLedger, peer: Any, task: Submission
    ) -> Told:
        await rig.ledger.submit(task)
        told = cls(await peer.take(spooling, task.task_id), peer)
        details = TaskDetailsRetrieved(task_id=task.task_id, source=task.source, ladder="web")
        await spooling.advance(told.claim, peer.record(details))
        server.kill()
        pulled = VideoFilePulled(task_id=task.task_id, size=1, seconds=0.5)
        started = WorkloadProcessingStarted(task_id=task.task_id, renditions=("360p",))
        await spooling.advance(told.claim, peer.record(pulled))
        await spooling.advance(told.claim, peer.record(started))
        assert spooling.spooled == 2
        return told


async def test_the_next_life_tells_what_the_killed_one_had_done(
    server: PostgresServer,
    rig: Rig,
    tmp_path: Path,
    make_peer: Any,
    make_submission: Callable[[], Submission],
) -> None:
    """Before anything else, and it does not matter how often; the claim goes on where it was."""
    former = spooling_over(rig.ledger, tmp_path / "spool")
    told = await Told.make(rig, server, former, make_peer("one"), make_submission())
    server.start()
    for _ in range(2):
        spooling = spooling_over(rig.ledger, tmp_path / "spool")
        await spooling.replay()
    task_id = told.claim.task_id
    made = VideoTranscoded(task_id=task_id, renditions=("360p",), seconds=1.0, cpu_seconds=1.0)
    await spooling.advance(told.claim, told.peer.record(made))

    assert await rig.story(task_id) == GOOD_WAY[:5]
    assert list((tmp_path / "spool").iterdir()) == []


async def test_a_claim_that_was_lost_meanwhile_changes_nothing(
    server: PostgresServer,
    rig: Rig,
    tmp_path: Path,
    make_peer: Any,
    make_submission: Callable[[], Submission],
) -> None:
    """Another peer has the part by then: the steps of its former holder are not the task's."""
    former = spooling_over(rig.ledger, tmp_path / "spool")
    told = await Told.make(rig, server, former, make_peer("one"), make_submission())
    server.start()
    other, task_id = make_peer("two"), told.claim.task_id
    held = await other.find_held(rig.ledger, task_id)
    await rig.ledger.claim(
        task_id, 0, other.holder, UUID(int=7), other.received(task_id), unheard=held
    )
    spooling = spooling_over(rig.ledger, tmp_path / "spool")
    await spooling.replay()

    assert await rig.story(task_id) == [*GOOD_WAY[:2], "ContainerErrorRetry", "TaskReceived"]
    with pytest.raises(ClaimLost):
        await spooling.renew(told.claim, None)


async def test_a_claim_with_a_hole_does_not_keep_a_peer_from_starting(
    server: PostgresServer,
    rig: Rig,
    tmp_path: Path,
    make_peer: Any,
    make_submission: Callable[[], Submission],
) -> None:
    """A line is damaged: the ledger refuses the claim's next step, which is set aside as well; what
    else there is arrives, and the next start has nothing left to stumble over."""
    directory = tmp_path / "spool"
    former = spooling_over(rig.ledger, directory)
    told = await Told.make(rig, server, former, make_peer("one"), make_submission())
    loose = told.peer.received(told.claim.task_id)
    await former.record([loose])
    server.start()
    [file] = directory.iterdir()
    data = bytearray(file.read_bytes())
    data[20] ^= 1
    file.write_bytes(data)
    for _ in range(2):
        await spooling_over(rig.ledger, directory).replay()

    assert await rig.story(told.claim.task_id) == [*GOOD_WAY[:2], loose.event.kind]
    [aside] = directory.iterdir()
    assert aside.read_bytes().splitlines() == [bytes(line) for line in data.splitlines()[:2]]
