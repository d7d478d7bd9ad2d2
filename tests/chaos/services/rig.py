"""What a fault test does around its fault: hands in tasks, waits for their ends, calls the checker.

The rig itself reaches the services past every relay and proxy, and reads with its own SQL; so what
is done to the peers' lines is not done to it. While a server is down it waits.
"""

from __future__ import annotations

import io
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pika
import psycopg
import trio
from psycopg.rows import dict_row

from pipeline.clearing import Clearer
from pipeline.errors import Unavailable
from pipeline.ledger.postgres import PostgresLedger
from pipeline.media.ladder import parse_ladder
from pipeline.messages import WakeUp, encode
from pipeline.ports import Abandoned, Submission, TaskQueue
from pipeline.queues.rabbitmq.config import RabbitConfig
from pipeline.queues.rabbitmq.queue import RabbitQueue
from pipeline.queues.rabbitmq.topology import Topology
from pipeline.stores.s3.store import S3Store
from pipeline.tasks import Priority
from tests.chaos.checker import Scene, check, wait_until_nothing_is_left
from tests.chaos.services.gates import Gate, Gates
from tests.chaos.services.peer import Running, Settings, Stamps, ledger_of, queue_of, settings
from tests.chaos.services.services import Fault, Server, Site
from tests.chaos.services.small import SOURCE_BYTES, source_of
from tests.chaos.trail import Trail

QUIET_WITHIN_S = 45.0
INSIST_S = 30.0
POLL_S = 0.1
UNSETTLED = "SELECT count(*) FROM tasks WHERE state IN ('queued', 'running')"


class AtOnce:
    """Implements `Clearing`: the ledger's, to which whatever is over is over for long enough."""

    def __init__(self, ledger: PostgresLedger) -> None:
        self._ledger = ledger

    async def abandoned(self, _older_than_s: float) -> Sequence[Abandoned]:
        return await self._ledger.abandoned(0.0)

    async def cleared(self, tokens: Sequence[UUID]) -> None:
        await self._ledger.cleared(tokens)


@dataclass(kw_only=True)
class Rig:
    """A site, and who hands tasks in there."""

    site: Site
    directory: Path
    ledger: PostgresLedger
    queue: TaskQueue
    own: Settings
    """Its own peers use the same kind of queue."""
    tasks: list[UUID] = field(default_factory=list)
    """All that were handed in: the checker demands these and no others."""

    def peer(self, name: str, number: int, **changes: object) -> Settings:
        """Settings for a peer that reaches the servers directly."""
        of_site = replace(settings(self.site, name, number, self.directory), queue=self.own.queue)
        return replace(of_site, **changes)  # type: ignore[arg-type]  # as `replace` is

    async def submit(self, task_id: UUID | None = None, **more: Any) -> UUID:
        """As `record`, and wake somebody, as a peer does for a person."""
        task_id = await self.record(task_id, **more)
        await self.wake(task_id)
        await insist(partial(self.ledger.announced, task_id, 0))
        return task_id

    async def send(self, task_id: UUID) -> None:
        """Store a source and publish a message that brings the whole task along, as clients do
        that do not reach the ledger."""
        source = await self._store(task_id, source_of(task_id))
        message = {"task_id": str(task_id), "task": {"source": source, "ladder": "web"}}
        self.tasks.append(task_id)
        await insist(partial(self.queue.publish, json.dumps(message).encode()))

    async def send_nonsense(self, task_id: UUID) -> None:
        """Publish a message that names a task and cannot be understood."""
        message = {"task_id": str(task_id), "colour": "red"}
        await insist(partial(self.queue.publish, json.dumps(message).encode()))

    async def record(
        self,
        task_id: UUID | None = None,
        *,
        size: int = SOURCE_BYTES,
        source: bytes | None = None,
        ladder: str = "web",
        attempts_max: int = 4,
    ) -> UUID:
        """Store a source and record its task; nobody is woken.

        Args:
            size: Of a source that is made for the task, in bytes.
            source: Instead of such a one.
        """
        task_id = task_id or uuid4()
        data = source_of(task_id, size) if source is None else source
        submission = Submission(
            task_id=task_id,
            source=await self._store(task_id, data),
            title="clip.mp4",
            ladder=parse_ladder(ladder),
            attempts_max=attempts_max,
        )
        await insist(partial(self.ledger.submit, submission))
        self.tasks.append(task_id)
        return task_id

    async def _store(self, task_id: UUID, data: bytes) -> str:
        key = f"sources/{task_id}/source.mp4"
        put = partial(self.site.minio().put_object, self.site.name, key)
        await trio.to_thread.run_sync(put, io.BytesIO(data), len(data))
        return key

    async def wake(
        self,
        task_id: UUID,
        *,
        priority: Priority = Priority.NORMAL,
        queue: TaskQueue | None = None,
    ) -> None:
        """Publish a message about a task.

        Args:
            queue: By another way.
        """
        body = encode(WakeUp(task_id=task_id))
        await insist(partial((queue or self.queue).publish, body, priority=priority))

    async def wait_until_settled(self, within_s: float) -> None:
        """Wait until every task has come to an end."""
        with trio.move_on_after(within_s):
            while True:
                if not await self._unsettled():
                    return
                await trio.sleep(POLL_S)
        raise AssertionError(f"not within {within_s:g} s:\n{await self.report()}")

    async def _unsettled(self) -> bool:
        with suppress(psycopg.OperationalError):
            rows = await self.read(UNSETTLED)
            return bool(rows[0]["count"])
        return True

    async def read(self, query: str) -> list[dict[str, object]]:
        """Ask the ledger's database, past everything of ours."""

        def work() -> list[dict[str, object]]:
            conninfo = self.site.conninfo
            with psycopg.connect(conninfo, row_factory=dict_row, connect_timeout=2) as connection:
                return connection.execute(query.encode()).fetchall()

        return await trio.to_thread.run_sync(work, abandon_on_cancel=True)

    async def report(self) -> str:
        """Where each task stands that has not come to its end, and what the queue holds, for a
        failing test."""
        rows = await self.read(
            "SELECT tasks.id, tasks.state, parts.attempt, parts.failures, parts.error,"
            " parts.announced_at, parts.not_before, claims.peer_name, claims.step, claims.progress,"
            " claims.lease_expires_at"
            " FROM tasks JOIN parts ON parts.task_id = tasks.id"
            " LEFT JOIN claims ON claims.token = parts.token"
            " WHERE tasks.state IN ('queued', 'running') ORDER BY tasks.submitted_at LIMIT 20"
        )
        try:
            held = str(await self.queue.depth())
        except Unavailable as error:
            held = str(error)
        return "\n".join([*map(str, rows), held])

    async def wait_until_quiet(self) -> None:
        """Wait until no message is anywhere; the peers must still work."""
        await self._wait_until_quiet(but_dead=False)

    async def _wait_until_quiet(self, *, but_dead: bool) -> None:
        wait = partial(wait_until_nothing_is_left, self.site.scene, QUIET_WITHIN_S)
        await trio.to_thread.run_sync(partial(wait, but_dead=but_dead))

    async def take_dead_letters(self) -> set[UUID]:
        """Wait until only dead letters are left, and take them away as a person would.

        Returns:
            The tasks that they name. One of them may have been set aside twice.
        """
        await self._wait_until_quiet(but_dead=True)
        take = _take_dead_letters if self.own.queue is not None else _take_dead_rows
        found = await trio.to_thread.run_sync(take, self.site.scene)
        return {UUID(json.loads(body)["task_id"]) for body in found}

    async def conclude(self) -> Mapping[UUID, Trail]:
        """Clear up as peers do after ten minutes, and let the checker judge. All must have stopped.

        Returns:
            What the ledger says of each task.
        """
        store = S3Store(self.own.store, environment={})
        await Clearer(clearing=AtOnce(self.ledger), store=store, rng=random.Random(1)).clear()
        await store.sweep(0.0)
        store.close()
        trails = await trio.to_thread.run_sync(check, self.site.scene, self.tasks)
        return {trail.task_id: trail for trail in trails}


@asynccontextmanager
async def rig_at(site: Site, directory: Path, *, embedded: bool = False) -> AsyncIterator[Rig]:
    """Bring the site's ledger and queues up to date, and be ready to hand tasks in.

    Args:
        embedded: With the queue in the ledger's database.
    """
    own = settings(site, "desk", 0xD, directory)
    if embedded:
        own = replace(own, queue=None)
    async with ledger_of(own, Stamps(own.holder)) as ledger, queue_of(own) as queue:
        await insist(ledger.prepare)
        if isinstance(queue, RabbitQueue):
            await insist(queue.prepare)
        yield Rig(site=site, directory=directory, ledger=ledger, queue=queue, own=own)


async def until_out_of_trouble(peer: Running, within_s: float) -> None:
    """Wait until all services answer a peer again."""

    async def is_well() -> bool:
        return not peer.worker.trouble

    await until(is_well, within_s)


async def insist(call: Callable[[], Awaitable[object]]) -> None:
    """Repeat what may be repeated: a server that was just killed, or a busy one, may refuse."""
    with trio.fail_after(INSIST_S):
        while True:
            try:
                await call()
            except Unavailable:
                await trio.sleep(POLL_S)
            else:
                return


async def until(condition: Callable[[], Awaitable[bool]], within_s: float) -> None:
    """Wait for what only can be asked for."""
    with trio.fail_after(within_s):
        while True:
            if await condition():
                return
            await trio.sleep(POLL_S)


async def until_in_trouble(peer: Running, service: str, within_s: float) -> None:
    """Wait until a peer says of a service that it does not answer."""

    async def says_so() -> bool:
        return service in peer.worker.trouble

    await until(says_so, within_s)


def one_at_each_gate() -> dict[UUID, Gate]:
    """As many new tasks as there are gates."""
    return {uuid4(): gate for gate in Gate}


async def let_it_happen(server: Server, fault: Fault, *gates: Gates) -> None:
    """Begin a fault while tasks stand at their gates, let them run into it, and end it."""
    await trio.to_thread.run_sync(fault.begin, server)
    try:
        for each in gates:
            each.open()
        await trio.sleep(fault.lasts_s)
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(fault.end, server)


def _take_dead_letters(scene: Scene) -> list[bytes]:
    url = scene.broker.url
    topology = Topology(RabbitConfig(url=url).prefix)
    found: list[bytes] = []
    with closing(pika.BlockingConnection(pika.URLParameters(url))) as connection:
        channel = connection.channel()
        while (body := channel.basic_get(topology.dead, auto_ack=True)[2]) is not None:
            found.append(body)
        channel.queue_purge(topology.newest_dead)
    return found


def _take_dead_rows(scene: Scene) -> list[bytes]:
    taken = "DELETE FROM queue_messages WHERE dead_at IS NOT NULL RETURNING body"
    with psycopg.connect(scene.ledger) as connection:
        return [bytes(body) for (body,) in connection.execute(taken)]
