"""A store that answers, but wrongly: errors, trickles, wrong bytes, too few of them.

A proxy before the real server spoils the answers to a pull, or what a push sends (`FaultyProxy`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from pipeline.errors import Stage
from pipeline.tasks import PartState
from tests.chaos.services.peer import Settings, settings, working
from tests.chaos.services.rig import Rig, until_in_trouble
from tests.chaos.services.small import DigestTranscoder
from tests.servers.faulty_http import Exchange, Fault, FaultyProxy

pytestmark = pytest.mark.slow

SIZES = (4096, 4096, 18 * 1024 * 1024)
"""Two in one piece; and one in several parts, as is each of the three outputs made of it."""
SPOILED = 6
"""How many requests meet a passing fault: more than a store repeats within one call."""
SETTLED_WITHIN_S = 90.0


def is_pull(exchange: Exchange) -> bool:
    return exchange.method == "GET" and "/sources/" in exchange.target


def is_push(exchange: Exchange) -> bool:
    return exchange.method in ("PUT", "POST") and "/tasks/" in exchange.target


WAYS = {"pull": is_pull, "push": is_push}

EITHER = {
    "errors of its own": Fault(status=500),
    "too many requests": Fault(status=503, code="SlowDown"),
    "silence": Fault(silent=True),
    "an answer that gets lost": Fault(reset_at=0),
}
FAULTS: dict[str, dict[str, Fault]] = {
    "pull": {
        **EITHER,
        "slow loris": Fault(drip_bytes_per_s=50.0),
        "wrong checksum": Fault(flip_at=1000),
        "truncated body": Fault(cut_at=1000),
        "reset in the body": Fault(reset_at=1000),
    },
    "push": {
        **EITHER,
        "slow answer": Fault(delay_s=3.0),
        "wrong checksum": Fault(flip_request_at=1000),
        "truncated body": Fault(cut_request_at=1000),
    },
}
CASES = [(way, name) for way, faults in FAULTS.items() for name in faults]


@pytest.fixture
def proxy(rig: Rig) -> Iterator[FaultyProxy]:
    with FaultyProxy(rig.site.services.store.port) as proxy:
        yield proxy


def behind(rig: Rig, proxy: FaultyProxy) -> Settings:
    """A peer that reaches the store by the proxy."""
    ports = replace(rig.site.ports, store=proxy.port)
    of_site = settings(rig.site, "one", 1, rig.directory, ports)
    store = replace(of_site.store, read_timeout_s=1.0)
    return replace(of_site, store=store, slots=len(SIZES))


@pytest.mark.parametrize(("way", "name"), CASES)
async def test_a_fault_that_passes(rig: Rig, proxy: FaultyProxy, way: str, name: str) -> None:
    """All tasks are done, with the bytes that were made, whatever the store did to the first
    requests; and those had to be made again."""
    proxy.fault = replace(FAULTS[way][name], only=WAYS[way], times=SPOILED)
    async with working(behind(rig, proxy), DigestTranscoder()):
        for size in SIZES:
            await rig.submit(size=size)
        await rig.wait_until_settled(SETTLED_WITHIN_S)
        await rig.wait_until_quiet()
    made = [
        (exchange.method, exchange.target, exchange.headers.get("Range"))
        for exchange in proxy.exchanges
        if WAYS[way](exchange)
    ]
    assert len(made) > len(set(made)), "the fault met nothing"
    trails = await rig.conclude()
    assert {trail.state for trail in trails.values()} == {PartState.DONE}


@pytest.mark.parametrize("way", WAYS)
async def test_a_fault_that_stays(rig: Rig, proxy: FaultyProxy, way: str) -> None:
    """Each task is tried as often as it may be and then escalated, once, for that stage; a person
    who has mended the store lets them go on, and they are done."""
    proxy.fault = Fault(status=500, only=WAYS[way])
    peer = replace(behind(rig, proxy), store_patience_s=0.2)
    tasks = [await rig.record(attempts_max=2) for _ in range(2)]
    async with working(peer, DigestTranscoder()):
        for task_id in tasks:
            await rig.wake(task_id)
            await rig.ledger.announced(task_id, 0)
        await rig.wait_until_settled(SETTLED_WITHIN_S)
        await rig.wait_until_quiet()
        escalated = await rig.conclude()
        assert {trail.state for trail in escalated.values()} == {PartState.ESCALATED}
        for task_id in tasks:
            report = await rig.ledger.show_task(str(task_id))
            assert report.failures == {Stage(way): 2}
        proxy.heal()
        for task_id in tasks:
            for due in await rig.ledger.retry(task_id, "the store is mended"):
                await rig.wake(due.task_id)
        await rig.wait_until_settled(SETTLED_WITHIN_S)
        await rig.wait_until_quiet()
    trails = await rig.conclude()
    assert {trail.state for trail in trails.values()} == {PartState.DONE}


async def test_credentials_of_the_store_expire(rig: Rig) -> None:
    """While the store knows our credentials no more, tasks wait; when whoever renews them has
    replaced the file, all are done, each by its first attempt: it was not their fault."""
    of_site = rig.peer("one", 1, slots=4)
    file = rig.directory / "credentials"
    store = replace(of_site.store, access_key=None, secret_key=None, credentials_file=file)
    good = (
        f"[default]\naws_access_key_id = {of_site.store.access_key}\n"
        f"aws_secret_access_key = {of_site.store.secret_key}\n"
    )
    file.write_text(good)
    async with working(replace(of_site, store=store), DigestTranscoder(takes_s=0.5)) as peer:
        tasks = [await rig.submit() for _ in range(4)]
        file.write_text(good.replace("aws_access_key_id = ", "aws_access_key_id = former"))
        await until_in_trouble(peer, "store", SETTLED_WITHIN_S)
        tasks += [await rig.submit() for _ in range(4)]
        file.write_text(good)
        await rig.wait_until_settled(SETTLED_WITHIN_S)
        await rig.wait_until_quiet()
    trails = await rig.conclude()
    assert len(trails) == len(tasks)
    assert {(trail.state, len(trail.claims)) for trail in trails.values()} == {(PartState.DONE, 1)}
