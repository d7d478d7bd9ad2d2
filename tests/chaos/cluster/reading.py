"""Reads the facts of a run that is over: from ledger, store, queue and Swarm, past all peers.

What abandoned attempts left in the store is cleared before by the product's own clearer, as peers
do ten minutes after an attempt's end and after a day for an upload: nobody wants to wait that long,
and what it does not find is nobody's.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote
from uuid import UUID

import pika
import trio

from deploy.lab.stack import Stack
from pipeline.clearing import Clearer
from pipeline.ledger import clearing
from pipeline.ledger.database import Database, DatabaseConfig
from pipeline.ports import Abandoned
from pipeline.queues.rabbitmq.config import RabbitConfig
from pipeline.queues.rabbitmq.topology import Topology
from pipeline.stores.s3.store import S3Store
from pipeline.tasks import prefix_of
from scaling.swarm.intents import NODE, RELEASED
from scaling.swarm.lease import HOLDER
from tests.chaos.checker import count_messages, read_trails
from tests.chaos.cluster.clips import count_pictures
from tests.chaos.cluster.facts import Committed, Facts, Handed, Held, Hit, Stored
from tests.chaos.cluster.settling import Settled
from tests.chaos.cluster.site import Site

AT_ONCE = 4
FOLDER = "tasks/"
DEAD = "dead"
POLL_S = 0.2

TOLD_WITHIN_S = 10.0
"""RabbitMQ's queues tell every five seconds what is in somebody's hands."""


class AtOnce:
    """Implements `Clearing`: the ledger's, to which whatever is over is over for long enough."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def abandoned(self, _older_than_s: float) -> Sequence[Abandoned]:
        """All there are."""
        return await self._database.run(lambda connection: clearing.abandoned(connection, 0.0))

    async def cleared(self, tokens: Sequence[UUID]) -> None:
        """Note it."""
        await self._database.run(lambda connection: clearing.cleared(connection, tokens))


async def clear_up(site: Site) -> None:
    """Do what peers do later: clear up after attempts that came to nothing."""
    database = Database(DatabaseConfig(conninfo=site.stack.ledger_url))
    store = S3Store(site.s3, environment={})
    try:
        rng = random.Random(1)
        await Clearer(clearing=AtOnce(database), store=store, rng=rng).clear()
        await store.sweep(0.0)
    finally:
        store.close()
        with trio.CancelScope(shield=True):
            await database.aclose()


def read_facts(
    site: Site,
    settled: Settled,
    *,
    handed: Sequence[Handed],
    nonsense: Sequence[str],
    hits: Sequence[Hit],
) -> Facts:
    """Read all there is to judge by. All services must be there."""
    committed = _read_committed(site)
    intents, holder = _read_configs(site.stack)
    left, dead = read_queues(site)
    return Facts(
        handed=handed,
        titles={row["id"]: row["title"] for row in site.read("SELECT id, title FROM tasks")},
        trails=read_trails(site.stack.ledger_url),
        held=_read_held(site),
        hits=hits,
        committed=committed,
        objects=_read_objects(site, {each.key for each in committed if each.rendition}),
        abandoned=_read_abandoned(site),
        unfinished=_read_unfinished(site),
        left=left,
        nonsense=nonsense,
        dead=dead,
        look=settled.look,
        intents=intents,
        lease_holder=holder,
        met_after_s=settled.met_after_s,
        over=settled.over,
    )


def _read_committed(site: Site) -> list[Committed]:
    return [
        Committed(
            task_id=row["task_id"],
            key=row["key"],
            size=row["size"],
            sha256=row["media"].get("sha256"),
            rendition=row["kind"] == "rendition",
        )
        for row in site.read("SELECT task_id, key, size, media, kind FROM outputs ORDER BY key")
    ]


def _read_held(site: Site) -> list[Held]:
    query = (
        "SELECT token, task_id, container, node, claimed_at, ended_at,"
        " outcome IS NOT DISTINCT FROM 'expired' AS expired FROM claims ORDER BY claimed_at"
    )
    return [Held(**row) for row in site.read(query)]


def _read_abandoned(site: Site) -> list[str]:
    rows = site.read("SELECT task_id, part, attempt FROM claims WHERE outcome <> 'done'")
    return [prefix_of(row["task_id"], row["part"], row["attempt"]) + "/" for row in rows]


def _read_objects(site: Site, films: Collection[str]) -> Mapping[str, Stored]:
    bucket = site.stack.store.bucket
    keys = [
        each.object_name
        for each in site.store().list_objects(bucket, FOLDER, recursive=True)
        # The tests' S3 server shows a directory of its own that it has just emptied.
        if each.object_name and not (each.object_name.endswith("/") and not each.size)
    ]
    with tempfile.TemporaryDirectory() as directory, ThreadPoolExecutor(AT_ONCE) as pool:
        look = partial(_read_object, site, Path(directory))
        return dict(pool.map(lambda key: (key, look(key, film=key in films)), keys))


def _read_object(site: Site, directory: Path, key: str, *, film: bool) -> Stored:
    file = directory / quote(key, safe="")
    site.store().fget_object(site.stack.store.bucket, key, str(file))
    stored = Stored(
        size=file.stat().st_size,
        sha256=sha256(file.read_bytes()).hexdigest(),
        pictures=count_pictures(file) if film else None,
    )
    file.unlink()
    return stored


def _read_unfinished(site: Site) -> list[str]:
    found = site.store()._list_multipart_uploads(site.stack.store.bucket, prefix=FOLDER)
    return [upload.object_name for upload in found.uploads]


def _read_configs(stack: Stack) -> tuple[list[str], str]:
    """Nodes that are said to come or go, and who holds the scaler's lease."""
    intents, holder = [], ""
    for config in stack.lab.manager().get("/configs"):
        labels = config["Spec"].get("Labels") or {}
        if NODE in labels and RELEASED not in labels:
            intents.append(labels[NODE])
        holder = labels.get(HOLDER, holder)
    return intents, holder


def read_queues(site: Site) -> tuple[Mapping[str, int], list[str]]:
    """What every queue but the dead ones holds for good, and the dead letters' bodies."""
    deadline = time.monotonic() + TOLD_WITHIN_S
    while any((left := _count_messages(site)).values()) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    return left, _read_letters(site)


def _count_messages(site: Site) -> Mapping[str, int]:
    counted = count_messages(site.scene.broker)
    return {name: left for name, (left, _) in counted.items() if f".{DEAD}" not in name}


def _read_letters(site: Site) -> list[str]:
    """Read the dead letters; they are back in their queue when the line is closed."""
    found = []
    with closing(pika.BlockingConnection(pika.URLParameters(site.stack.queue_url))) as connection:
        channel = connection.channel()
        dead = Topology(RabbitConfig(url=site.stack.queue_url).prefix).dead
        while (body := channel.basic_get(dead)[2]) is not None:
            found.append(body.decode(errors="replace"))
    return found
