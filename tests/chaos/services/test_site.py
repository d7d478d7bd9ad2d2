"""A cluster's clients and the reader of its facts meet the real services, without a cluster."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from uuid import uuid4

import pytest
import trio

from deploy.lab.stack import Stack, Store
from pipeline.tasks import PartState
from scaling.swarm.lease import HOLDER
from tests.chaos.cluster.checker import check
from tests.chaos.cluster.clients import Clients
from tests.chaos.cluster.evidence import keep_evidence
from tests.chaos.cluster.facts import Look
from tests.chaos.cluster.orders import Clip, Order, Way
from tests.chaos.cluster.reading import clear_up, read_facts, read_queues
from tests.chaos.cluster.settling import Settled
from tests.chaos.cluster.site import Site
from tests.chaos.cluster.timeline import FILE, Timeline, read_timeline
from tests.chaos.services.peer import working
from tests.chaos.services.rig import Rig, until
from tests.chaos.services.small import DigestTranscoder, source_of

pytestmark = pytest.mark.slow

WITHIN_S = 60.0
NOTHING_SEEN = Settled(look=Look(), met_after_s=None, over=True)
OF_THE_SWARM = ("lease to scale", "tables")


def site_of(rig: Rig) -> Site:
    """The same services, where a stack of a lab would have them; its Swarm has a lease only."""
    site, server = rig.site, rig.site.services.store
    config = {"Spec": {"Labels": {HOLDER: "nobody we know"}}}
    stack = SimpleNamespace(
        ledger_url=site.conninfo,
        queue_url=site.queue_url(),
        management_url=site.services.queue.management_url,
        store=Store(
            endpoint=server.endpoint,
            bucket=site.name,
            access_key=server.access_key,
            secret_key=server.secret_key,
        ),
        lab=SimpleNamespace(
            plan=SimpleNamespace(members=[]),
            manager=lambda: SimpleNamespace(get=lambda _path: [config]),
        ),
    )
    return Site(cast(Stack, stack))


def order(way: Way, clip: Clip) -> Order:
    task_id = uuid4()  # the gates of these tests find it in the source's key
    return Order(name=f"{task_id}/{clip}.mp4", task_id=task_id, at_s=0.0, clip=clip, way=way)


async def test_what_is_handed_in_is_found_again(rig: Rig, tmp_path: Path) -> None:
    """Tasks that come as messages and as rows are done, and the facts have all of them: outputs
    with their bytes, no message left, and what nobody can understand among the dead letters. The
    evidence of a run has them, too.

    The transcoder of these tests makes no films, and that is told, too.
    """
    site, timeline = site_of(rig), Timeline(tmp_path / FILE)
    orders = [order(Way.MESSAGE, Clip.SHORT), order(Way.ROWS, Clip.LONG)]
    films = {each.clip: source_of(each.task_id) for each in orders}  # as that transcoder wants it
    clients = Clients(site, films, timeline, seed=1)

    async def all_is_read() -> bool:
        """What nobody can understand waits behind the tasks, and is read after their end."""
        _, dead = await trio.to_thread.run_sync(read_queues, site)
        return set(clients.nonsense) <= set(dead)

    async with working(rig.peer("one", 1), DigestTranscoder()):
        with trio.fail_after(WITHIN_S):
            await clients.run(orders, for_s=timeline.now_s + 1.0)
        await rig.wait_until_settled(WITHIN_S)
        await until(all_is_read, WITHIN_S)
    await clear_up(site)
    read = partial(
        read_facts,
        site,
        NOTHING_SEEN,
        handed=clients.handed,
        nonsense=clients.nonsense,
        hits=[],
    )
    facts = await trio.to_thread.run_sync(read)

    assert {handed.order.name for handed in facts.handed} == set(facts.titles.values())
    assert clients.waiting == 0
    assert all(trail.state is PartState.DONE for trail in facts.trails)
    assert facts.lease_holder == "nobody we know"
    told = [each for each in check(facts) if not any(word in each for word in OF_THE_SWARM)]
    assert told
    assert all("pictures, not" in each for each in told), told

    await trio.to_thread.run_sync(keep_evidence, site, facts, tmp_path / "kept")
    kept = (tmp_path / "kept/ledger/tasks.jsonl").read_text()
    assert all(str(each.task_id) in kept for each in orders)
    assert "nobody we know" in (tmp_path / "kept/facts.txt").read_text()
    assert "nobody we know" in (tmp_path / "kept/swarm/configs.json").read_text()
    assert [entry["what"] for entry in read_timeline(tmp_path / FILE)] == ["taken", "taken"]
