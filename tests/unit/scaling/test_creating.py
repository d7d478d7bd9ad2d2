"""The creator's own part: what it takes, what it refuses, and what it says when things go wrong."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
import trio.testing

from scaling.creating import Creator
from scaling.intents import Intent
from scaling.ports import Machine, OrchestratorUnavailable, ProviderFailed
from scaling.providers.errors import ProviderRefused
from scaling.providers.standby import StandbyProvider
from scaling.snapshot import Node, NodeState
from scaling.upkeep import UpkeepRules

RULES = UpkeepRules(pool="pool", machines_max=9, boot_timeout_s=300.0, settle_s=60.0)


class Claims:
    """Claims in a dictionary."""

    def __init__(self) -> None:
        self.held: dict[str, Intent] = {}
        self.error: Exception | None = None

    async def list(self) -> Sequence[Intent]:
        """All."""
        return list(self.held.values())

    async def claim(self, name: str, *, term: int) -> bool:
        """Put one in."""
        if self.error is not None:
            raise self.error
        if name in self.held:
            return False
        self.held[name] = Intent(name=name, term=term, version=f"{name}/{term}")
        return True

    async def adopt(self, intent: Intent, *, term: int) -> bool:
        """Replace one."""
        self.held[intent.name] = Intent(name=intent.name, term=term, version=f"adopted/{term}")
        return True

    async def release(self, intent: Intent) -> bool:
        """Take one out."""
        return self.held.pop(intent.name, None) is not None


class Machines:
    """Machines in a list; each takes ten seconds to be ordered."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.error: Exception | None = None
        self.destroyed: list[str] = []

    async def list(self) -> Sequence[Machine]:
        """All."""
        return [Machine(name=name, state=NodeState.BOOTING) for name in self.names]

    async def create(self, name: str) -> None:
        """Order one."""
        await trio.sleep(10)
        if self.error is not None:
            raise self.error
        self.names.append(name)

    async def destroy(self, name: str) -> None:
        """Give it back."""
        if self.error is not None:
            raise self.error
        self.names.remove(name)
        self.destroyed.append(name)


class Crew:
    """A creator with all of it."""

    def __init__(self) -> None:
        self.claims, self.machines, self.leads = Claims(), Machines(), True
        self.creator = Creator(
            self.machines, self.claims, RULES, term=3, may_act=lambda: self.leads
        )


@pytest.fixture
def crew() -> Crew:
    """With nothing claimed and nothing made."""
    return Crew()


def _node(name: str) -> Node:
    return Node(name=name, state=NodeState.STANDBY, since_s=0.0, capacity=4)


async def test_orders_become_machines_at_the_same_time(
    crew: Crew, autojump_clock: trio.testing.MockClock
) -> None:
    """Claims in one round, orders in the next, all of them in the time of one; then released."""
    for number in (1, 2, 3):
        assert crew.creator.order(f"pool-{number}") is None
    await crew.creator.tend([])
    assert sorted(crew.claims.held) == ["pool-1", "pool-2", "pool-3"]
    began = autojump_clock.current_time()
    tended = await crew.creator.tend([])
    assert autojump_clock.current_time() - began == pytest.approx(10, abs=0.1)
    assert sorted(crew.machines.names) == ["pool-1", "pool-2", "pool-3"]
    assert sorted(tended.booting) == ["pool-1", "pool-2", "pool-3"]
    nodes = [_node(name) for name in crew.machines.names]
    await trio.sleep(RULES.settle_s)
    tended = await crew.creator.tend(nodes)
    assert crew.claims.held == {}
    assert tended.booting == {}
    assert tended.findings == ()
    assert [machine.name for machine in tended.machines] == crew.machines.names


async def test_a_machine_is_removed_under_a_claim(crew: Crew) -> None:
    """Claimed, destroyed, released; a name outside of the pool is never touched."""
    crew.machines.names = ["pool-1", "web-1"]
    crew.creator.remove("pool-1")
    crew.creator.remove("web-1")
    for _ in range(4):
        await crew.creator.tend([_node("pool-1")])
    assert crew.machines.destroyed == ["pool-1"]
    assert crew.claims.held == {}


@pytest.mark.parametrize("name", ["web-1", "pool-", "pool-1x", "-rf", "pool-99999", "pool-1\n"])
async def test_only_names_of_the_pool_are_ordered(crew: Crew, name: str) -> None:
    """Nothing that could be an option, a path or somebody else's."""
    refused = crew.creator.order(name)
    assert refused is not None
    assert refused.code == "name"
    await crew.creator.tend([])
    assert crew.claims.held == {}


async def test_what_is_leaving_is_not_ordered(crew: Crew) -> None:
    """First the old machine of a name must be gone."""
    crew.machines.names = ["pool-1"]
    crew.creator.remove("pool-1")
    refused = crew.creator.order("pool-1")
    assert refused is not None
    assert refused.code == "leaving"


async def test_after_a_failure_new_orders_are_refused_for_a_while(
    crew: Crew, autojump_clock: trio.testing.MockClock
) -> None:
    """The reason says for how long, after how many failures, and which the last one was."""
    crew.machines.error = ProviderFailed("quota exceeded")
    crew.creator.order("pool-1")
    await crew.creator.tend([])
    tended = await crew.creator.tend([])
    assert [finding.code for finding in tended.findings] == ["create_failed"]
    assert "quota exceeded" in tended.findings[0].text
    refused = crew.creator.order("pool-2")
    assert refused is not None
    assert (refused.code, refused.text) == (
        "backoff",
        "no machine is ordered for 30 s, after 1 failures: quota exceeded",
    )
    assert crew.creator.order("pool-1") is None
    for _ in range(2):  # for as long as that is why there is no machine
        (pause,) = (await crew.creator.tend([])).findings
        assert pause.code == "backoff"
        assert "quota exceeded" in pause.text
    await trio.sleep(31)
    assert crew.creator.order("pool-2") is None


async def test_a_refused_order_frees_its_name(crew: Crew) -> None:
    """With `standby`, nothing can be made: said once, and nothing is left behind."""
    creator = Creator(StandbyProvider(), crew.claims, RULES, term=3, may_act=lambda: True)
    creator.order("pool-1")
    await creator.tend([])
    tended = await creator.tend([])
    assert [finding.code for finding in tended.findings] == ["refused"]
    await creator.tend([])
    assert crew.claims.held == {}
    creator.remove("pool-1")
    await creator.tend([])


async def test_who_does_not_lead_any_more_does_nothing(crew: Crew) -> None:
    """Between the look and the step the lease may have run out."""
    crew.creator.order("pool-1")
    crew.leads = False
    await crew.creator.tend([])
    assert crew.claims.held == {}
    crew.claims.held["pool-1"] = Intent(name="pool-1", term=3, version="x")
    await crew.creator.tend([])
    assert crew.machines.names == []
    assert "pool-1" in crew.claims.held


async def test_what_fails_is_said_and_the_rest_goes_on(crew: Crew) -> None:
    """One claim that cannot be written does not keep another machine from being destroyed."""
    crew.claims.held["pool-2"] = Intent(name="pool-2", term=3, version="x")
    crew.machines.names = ["pool-2"]
    crew.creator.remove("pool-2")
    crew.creator.order("pool-1")
    crew.claims.error = OrchestratorUnavailable("no quorum")
    tended = await crew.creator.tend([])
    assert [finding.code for finding in tended.findings] == ["claims"]
    assert crew.machines.destroyed == ["pool-2"]


async def test_a_machine_that_cannot_be_destroyed_is_told(
    crew: Crew, autojump_clock: trio.testing.MockClock
) -> None:
    """It may cost money until somebody looks; and it is tried again, not every round."""
    crew.machines.names = ["pool-1"]
    crew.claims.held["pool-1"] = Intent(name="pool-1", term=3, version="x")
    crew.creator.remove("pool-1")
    crew.machines.error = ProviderFailed("API down")
    tended = await crew.creator.tend([])
    assert [finding.code for finding in tended.findings] == ["destroy_failed"]
    assert (await crew.creator.tend([])).steps == ()
    crew.machines.error = None
    await trio.sleep(RULES.settle_s)
    await crew.creator.tend([])
    assert crew.machines.destroyed == ["pool-1"]


async def test_a_refused_order_is_no_failure_of_the_provider() -> None:
    """`ProviderRefused` is a `ProviderFailed` for those who do not care which."""
    with pytest.raises(ProviderFailed):
        await StandbyProvider().create("pool-1")
    assert issubclass(ProviderRefused, ProviderFailed)
    assert await StandbyProvider().list() == ()
