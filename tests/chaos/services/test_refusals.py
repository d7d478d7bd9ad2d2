"""Services that are there and refuse: credentials that have expired, and too many connections.

Nothing is lost, nobody's attempt is counted, and it is over when somebody has mended it; no peer is
started again for that. (Of the store: `test_store_faults`.)
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio

from pipeline.tasks import PartState
from tests.chaos.services.peer import working
from tests.chaos.services.rig import Rig, until_in_trouble
from tests.chaos.services.services import Site
from tests.chaos.services.small import DigestTranscoder

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
    end_sessions(site)


def renew_role(site: Site) -> None:
    site.administer(f"ALTER ROLE \"{site.name}\" VALID UNTIL 'infinity'")


def limit_role(site: Site) -> None:
    site.administer(f'ALTER ROLE "{site.name}" CONNECTION LIMIT 0')
    end_sessions(site)


def unlimit_role(site: Site) -> None:
    site.administer(f'ALTER ROLE "{site.name}" CONNECTION LIMIT -1')


def close_connections(site: Site) -> None:
    """Who is connected must come in again."""
    site.services.queue.control("close_all_connections", "--vhost", site.name, "by the test")


def change_password(site: Site) -> None:
    site.manage("PUT", "/api/users/{}", {"password": "another", "tags": "management"})
    close_connections(site)


def restore_password(site: Site) -> None:
    site.manage("PUT", "/api/users/{}", {"password": site.password, "tags": "management"})


def limit_connections(site: Site) -> None:
    site.manage("PUT", "/api/vhost-limits/{}/max-connections", {"value": 0})
    close_connections(site)


def unlimit_connections(site: Site) -> None:
    site.manage("DELETE", "/api/vhost-limits/{}/max-connections")


REFUSALS: dict[str, tuple[str, Act, Act]] = {
    "the ledger's password has expired": ("ledger", expire_role, renew_role),
    "the ledger takes no more connections": ("ledger", limit_role, unlimit_role),
    "the queue's password was changed": ("queue", change_password, restore_password),
    "the queue takes no more connections": ("queue", limit_connections, unlimit_connections),
}


@pytest.mark.parametrize("name", REFUSALS)
async def test_a_service_refuses_for_a_while(rig: Rig, name: str) -> None:
    """Two peers are at work when a service does not let them in any more: both say so, and take no
    work. When it lets them in again, all tasks are done, each by its first attempt."""
    service, refuse, admit = REFUSALS[name]
    transcoder = DigestTranscoder(takes_s=0.5)
    one, other = rig.peer("one", 1), rig.peer("other", 2)
    async with working(one, transcoder) as first, working(other, transcoder) as second:
        for _ in range(TASKS):
            await rig.submit()
        await trio.to_thread.run_sync(refuse, rig.site)
        for peer in (first, second):
            await until_in_trouble(peer, service, SEEN_WITHIN_S)
        await trio.to_thread.run_sync(admit, rig.site)
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
