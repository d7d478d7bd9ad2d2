"""Services that are there and refuse: credentials that have expired, and too many connections.

Nothing is lost, nobody's attempt is counted, and it is over when somebody has mended it; no peer is
started again for that. (Of the store: `test_store_faults`.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import trio

from pipeline.tasks import PartState
from tests.chaos.services.peer import Running, working
from tests.chaos.services.rig import POLL_S, Rig, until
from tests.chaos.services.services import Site
from tests.chaos.services.small import DigestTranscoder, PatientTranscoder

pytestmark = pytest.mark.slow

TASKS = 8
SETTLED_WITHIN_S = 90.0
SEEN_WITHIN_S = 30.0

Act = Callable[[Site], None]


def end_sessions(site: Site) -> None:
    """Who is connected must come in again."""
    site.administer(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        f" WHERE datname = '{site.name}' AND usename = '{site.name}'"
    )


def expire_role(site: Site) -> None:
    site.administer(f"ALTER ROLE \"{site.name}\" VALID UNTIL '2020-01-01'")


def renew_role(site: Site) -> None:
    site.administer(f"ALTER ROLE \"{site.name}\" VALID UNTIL 'infinity'")


def limit_role(site: Site) -> None:
    site.administer(f'ALTER ROLE "{site.name}" CONNECTION LIMIT 0')


def unlimit_role(site: Site) -> None:
    site.administer(f'ALTER ROLE "{site.name}" CONNECTION LIMIT -1')


def close_connections(site: Site) -> None:
    """Who is connected must come in again."""
    site.services.queue.control("close_all_connections", "--vhost", site.name, "by the test")


def change_password(site: Site) -> None:
    site.manage("PUT", "/api/users/{}", {"password": "another", "tags": "management"})


def restore_password(site: Site) -> None:
    site.manage("PUT", "/api/users/{}", {"password": site.password, "tags": "management"})


def limit_connections(site: Site) -> None:
    site.manage("PUT", "/api/vhost-limits/{}/max-connections", {"value": 0})


def unlimit_connections(site: Site) -> None:
    site.manage("DELETE", "/api/vhost-limits/{}/max-connections")


@dataclass(frozen=True, slots=True)
class Refusal:
    """How a service is made to refuse, how those who are in are turned out, and how it ends."""

    service: str
    refuse: Act
    turn_out: Act
    admit: Act


REFUSALS = {
    "the ledger's password has expired": Refusal("ledger", expire_role, end_sessions, renew_role),
    "the ledger takes no more connections": Refusal(
        "ledger", limit_role, end_sessions, unlimit_role
    ),
    "the queue's password was changed": Refusal(
        "queue", change_password, close_connections, restore_password
    ),
    "the queue takes no more connections": Refusal(
        "queue", limit_connections, close_connections, unlimit_connections
    ),
}


async def until_all_is_in_hand(*peers: Running) -> None:
    """Wait until each peer has as many tasks in hand as it can: one that has none may not need the
    ledger for a while, and then says nothing of it."""

    async def is_in_hand() -> bool:
        return all(len(peer.worker.jobs) == peer.worker.slots for peer in peers)

    await until(is_in_hand, SEEN_WITHIN_S)


async def until_turned_out(site: Site, refusal: Refusal, *peers: Running) -> None:
    """Wait until all peers say so. Who had been let in, and was not yet listed among those who are
    in when these were turned out, is turned out the next time."""
    with trio.fail_after(SEEN_WITHIN_S):
        while any(refusal.service not in peer.worker.trouble for peer in peers):
            await trio.to_thread.run_sync(refusal.turn_out, site)
            await trio.sleep(POLL_S)


@pytest.mark.parametrize("name", REFUSALS)
async def test_a_service_refuses_for_a_while(rig: Rig, name: str) -> None:
    """Two peers are at work when a service does not let them in any more: both say so, and take no
    work. When it lets them in again, all tasks are done, each by its first attempt."""
    refusal = REFUSALS[name]
    transcoder = PatientTranscoder()
    one, other = rig.peer("one", 1), rig.peer("other", 2)
    async with working(one, transcoder) as first, working(other, transcoder) as second:
        tasks = [await rig.submit() for _ in range(TASKS)]
        await until_all_is_in_hand(first, second)
        await trio.to_thread.run_sync(refusal.refuse, rig.site)
        # One of each comes to its end and asks for another; the others go on.
        transcoder.end(*(peer.worker.jobs[0].claim.task_id for peer in (first, second)))
        await until_turned_out(rig.site, refusal, first, second)
        transcoder.end(*tasks)
        await trio.to_thread.run_sync(refusal.admit, rig.site)
        await rig.wait_until_settled(SETTLED_WITHIN_S)
        await rig.wait_until_quiet()
    trails = await rig.conclude()
    assert len(trails) == TASKS
    assert {(trail.state, len(trail.claims)) for trail in trails.values()} == {(PartState.DONE, 1)}


async def test_there_are_fewer_connections_than_peers_would_like(rig: Rig) -> None:
    """The ledger lets two connections in, where two peers and who hands tasks in would open a
    dozen: work goes on, and all tasks are done, however often they had to be begun."""
    for _ in range(TASKS):
        await rig.submit(attempts_max=100)

    def limit(site: Site) -> None:
        site.administer(f'ALTER ROLE "{site.name}" CONNECTION LIMIT 2')
        end_sessions(site)

    await trio.to_thread.run_sync(limit, rig.site)
    transcoder = DigestTranscoder()
    one, other = rig.peer("one", 1), rig.peer("other", 2)
    async with working(one, transcoder), working(other, transcoder):
        await rig.wait_until_settled(SETTLED_WITHIN_S)
        await rig.wait_until_quiet()
    await trio.to_thread.run_sync(unlimit_role, rig.site)
    trails = await rig.conclude()
    assert {trail.state for trail in trails.values()} == {PartState.DONE}
