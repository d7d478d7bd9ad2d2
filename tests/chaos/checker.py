"""The checker: looks at what is left when everything is over, and knows only the four promises.

    each task has exactly one committed result or one escalation
    every event sequence is a path of the state machine
    no partial object is visible
    no message is left over

It asks the three services itself (SQL, the management API, S3) instead of going through the
adapters that it judges. Workload and faults know nothing of it, so every test ends with the same
one, whatever it did.
"""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote
from uuid import UUID

import pika
import psycopg
import urllib3
from minio import Minio
from psycopg.rows import dict_row

from pipeline.ledger.parts import Outcome
from pipeline.tasks import PartState, Step, prefix_of
from tests.chaos.trail import Claimed, Intervened, Said, Trail, objections

SHOWN_MAX = 20
"""How many objections a report shows; the first ones tell the most."""

POLL_S = 0.1

STILL_S = 1.0
"""Each queue tells what is in somebody's hands at its ticks: five a second on the brokers of tests
(`RabbitServer`). So nothing is left only when nothing was told for several of them."""

TOLD_LATE_S = 10.0
"""On a busy machine, what was just acknowledged is told as held for so long at most."""

COUNT_WITHIN_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Where objects lie, and how the checker comes there."""

    client: Minio
    name: str
    prefix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """A RabbitMQ, its management API, and the virtual host that is looked at."""

    url: str
    management_url: str
    user: str
    password: str
    virtual_host: str = "/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What is looked at: a ledger (libpq's conninfo, of somebody who may read all), objects, and
    the queues."""

    ledger: str
    bucket: Bucket
    broker: Broker


class Broken(AssertionError):
    """Promises that were not kept, each in one sentence."""


def check(scene: Scene, tasks: Sequence[UUID], *, cleared: bool = True) -> list[Trail]:
    """Demand all four promises, of exactly these tasks. Every peer must have stopped.

    Args:
        cleared: What abandoned attempts uploaded has been cleared away, so that nothing but sources
            and outputs may be there. Otherwise it may be there, whole and not visible to anybody.

    Returns:
        What the ledger says, for whoever wants to know more.

    Raises:
        Broken: With all that is wrong.
    """
    trails = read_trails(scene.ledger)
    found = [
        *_missing_tasks(trails, tasks),
        *(objection for trail in trails for objection in objections(trail)),
        *_partial_objects(scene, cleared=cleared),
        *_left_for_good(scene),
    ]
    if found:
        more = f"\n… and {len(found) - SHOWN_MAX} more" if len(found) > SHOWN_MAX else ""
        raise Broken(f"{len(found)} objections:\n" + "\n".join(found[:SHOWN_MAX]) + more)
    return trails


def read_trails(ledger: str) -> list[Trail]:
    """Read the history of every part there is."""
    with psycopg.connect(ledger, row_factory=dict_row) as connection:
        read = connection.execute
        claims = _by_part(read("SELECT * FROM claims ORDER BY attempt").fetchall())
        events = _by_part(read("SELECT * FROM events ORDER BY id").fetchall())
        outputs = _by_part(read("SELECT task_id, part, token FROM outputs").fetchall())
        people: dict[UUID, list[Intervened]] = defaultdict(list)
        for row in read("SELECT * FROM interventions ORDER BY id").fetchall():
            people[row["task_id"]].append(Intervened(action=row["action"], at=row["at"]))
        parts = read("SELECT task_id, part, state FROM parts ORDER BY task_id, part").fetchall()
    return [
        Trail(
            task_id=row["task_id"],
            part=row["part"],
            state=PartState(row["state"]),
            claims=[_claimed(claim) for claim in claims[row["task_id"], row["part"]]],
            events=[
                Said(
                    type=event["type"],
                    by=(event["peer_uid"], event["epoch"]),
                    data=event["data"],
                )
                for event in events[row["task_id"], row["part"]]
            ],
            interventions=people[row["task_id"]],
            output_tokens=frozenset(
                output["token"] for output in outputs[row["task_id"], row["part"]]
            ),
        )
        for row in parts
    ]


def wait_until_nothing_is_left(scene: Scene, within_s: float, *, but_dead: bool = False) -> None:
    """Wait until no message is anywhere: the last acknowledgement follows the last commit, and a
    message that was put back comes once more.

    Args:
        but_dead: Dead letters may be.
    """
    deadline = time.monotonic() + within_s
    nothing_since = None
    while True:
        left = list(left_over(scene, but_dead=but_dead))
        now = time.monotonic()
        if left:
            nothing_since = None
            if now > deadline:
                raise Broken(f"after {within_s:g} s:\n" + "\n".join(left))
        else:
            nothing_since = nothing_since or now
            if now - nothing_since >= STILL_S:
                return
        time.sleep(POLL_S)


def _left_for_good(scene: Scene) -> Sequence[str]:
    """What is left although every peer has stopped: it does not go away by being told late."""
    deadline = time.monotonic() + TOLD_LATE_S
    while (left := list(_in_queues(scene.broker))) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    return [*left, *_in_ledger(scene.ledger)]


def left_over(scene: Scene, *, but_dead: bool = False) -> Iterator[str]:
    """Say of each queue what is still in it: ready, delayed, dead or in somebody's hands."""
    yield from _in_queues(scene.broker, but_dead=but_dead)
    yield from _in_ledger(scene.ledger, but_dead=but_dead)


def _in_queues(broker: Broker, *, but_dead: bool = False) -> Iterator[str]:
    for name, (left, held) in count_messages(broker).items():
        if left and not (but_dead and ".dead" in name):
            yield f"queue {name}: {left} messages are left, {held} in somebody's hands"


def count_messages(broker: Broker) -> Mapping[str, tuple[int, int]]:
    """How many messages each queue has, and how many of them are in somebody's hands.

    What the management API has in its statistics is told up to five seconds late, and after a
    restart not for a long while. So it is asked for what the queues told at their last tick, and
    each queue itself for what is ready, which it always knows.
    """
    query = "disable_stats=true&enable_queue_totals=true"
    queues = ask(broker, "GET", f"/api/queues/{quote(broker.virtual_host, safe='')}?{query}")
    ready = _count_ready(broker, [queue["name"] for queue in queues])
    return {
        queue["name"]: (
            max(queue.get("messages", 0), ready[queue["name"]]),
            queue.get("messages_unacknowledged", 0),
        )
        for queue in queues
    }


def _in_ledger(ledger: str, *, but_dead: bool = False) -> Iterator[str]:
    with psycopg.connect(ledger) as connection:
        rows = connection.execute("SELECT id, consumer, dead_at IS NOT NULL FROM queue_messages")
        for number, consumer, dead in rows:
            if not (but_dead and dead):
                yield f"the embedded queue: message {number} is left, in the hands of {consumer}"


def _count_ready(broker: Broker, queues: Sequence[str]) -> Mapping[str, int]:
    if not queues:
        return {}
    parameters = pika.URLParameters(broker.url)
    parameters.blocked_connection_timeout = COUNT_WITHIN_S
    with closing(pika.BlockingConnection(parameters)) as connection:
        channel = connection.channel()
        return {
            queue: channel.queue_declare(queue, passive=True).method.message_count
            for queue in queues
        }


def ask(broker: Broker, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
    """Ask the management API."""
    with urllib3.PoolManager(retries=False, timeout=20.0) as http:
        answer = http.request(
            method,
            broker.management_url + path,
            headers=urllib3.make_headers(basic_auth=f"{broker.user}:{broker.password}"),
            json=body,
        )
    if answer.status >= 400:
        raise RuntimeError(f"{method} {path}: {answer.status} {answer.data.decode()}")
    return answer.json() if answer.data else None


def _by_part(rows: Sequence[dict[str, Any]]) -> dict[tuple[UUID, int], list[dict[str, Any]]]:
    found: dict[tuple[UUID, int], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        found[row["task_id"], row["part"]].append(row)
    return found


def _claimed(row: Mapping[str, Any]) -> Claimed:
    return Claimed(
        token=row["token"],
        attempt=row["attempt"],
        holder=(row["peer_uid"], row["epoch"]),
        step=Step(row["step"]),
        claimed_at=row["claimed_at"],
        ended_at=row["ended_at"],
        outcome=None if row["outcome"] is None else Outcome(row["outcome"]),
    )


def _missing_tasks(trails: Sequence[Trail], tasks: Sequence[UUID]) -> Iterator[str]:
    known = {trail.task_id for trail in trails}
    yield from (f"task {task_id} is lost" for task_id in tasks if task_id not in known)
    yield from (f"task {task_id} came from nowhere" for task_id in known - set(tasks))


def _partial_objects(scene: Scene, *, cleared: bool) -> Iterator[str]:
    """Committed outputs are there, whole, each the very bytes that were made; and nothing else is
    a task's: what an attempt without outputs left is cleared, or at least known as abandoned."""
    bucket = scene.bucket
    below = f"{bucket.prefix}/" if bucket.prefix else ""
    there = {
        found.object_name.removeprefix(below): found.size
        for found in bucket.client.list_objects(bucket.name, f"{below}tasks/", recursive=True)
        # The tests' S3 server shows a directory of its own that it has just emptied.
        if not (found.object_name.endswith("/") and found.size == 0)
    }
    with psycopg.connect(scene.ledger, row_factory=dict_row) as connection:
        outputs = connection.execute("SELECT key, size, media FROM outputs").fetchall()
        failed = connection.execute(
            "SELECT task_id, part, attempt FROM claims WHERE outcome <> 'done'"
        ).fetchall()
    abandoned = {prefix_of(row["task_id"], row["part"], row["attempt"]) + "/" for row in failed}
    for output in outputs:
        key, size = output["key"], output["size"]
        if key not in there:
            yield f"output {key} is not in the store"
        elif there.pop(key) != size:
            yield f"output {key} has not the {size} bytes that were committed"
        elif (made := output["media"].get("sha256")) and _digest(bucket, below + key) != made:
            yield f"output {key} has other bytes than were made"
    for key in there:
        if f"{key.rpartition('/')[0]}/" not in abandoned:
            yield f"object {key} is nobody's"
        elif cleared:
            yield f"object {key} is of an abandoned attempt, and was not cleared away"


def _digest(bucket: Bucket, key: str) -> str:
    answer = bucket.client.get_object(bucket.name, key)
    try:
        return hashlib.sha256(answer.read()).hexdigest()
    finally:
        answer.close()
        answer.release_conn()
