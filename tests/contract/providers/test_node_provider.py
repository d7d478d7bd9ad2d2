"""What every provider that makes machines keeps to, whatever makes them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from scaling.ports import ProviderFailed
from scaling.snapshot import NodeState
from tests.contract.providers.providers import Place, cloud_place, exec_place

PLACES: dict[str, Callable[[Path], Place]] = {
    "exec": exec_place,
    "libcloud": lambda _: cloud_place(),
}


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """One of them, with nothing in it."""
    return PLACES[request.param](tmp_path)


async def test_what_is_created_is_listed(place: Place) -> None:
    """A new machine is in the list, on its way, under the name it was ordered by."""
    assert list(await place.provider.list()) == []
    await place.provider.create("pool-1")
    (machine,) = await place.provider.list()
    assert (machine.name, machine.state) == ("pool-1", NodeState.BOOTING)


async def test_creating_twice_makes_one(place: Place) -> None:
    """A name that exists is left as it is, and not even asked for."""
    await place.provider.create("pool-1")
    await place.provider.create("pool-1")
    assert place.names() == ["pool-1"]
    assert place.orders() == 1


async def test_destroying_twice_is_fine(place: Place) -> None:
    """What is gone is gone, and what never was is gone, too; others stay."""
    await place.provider.create("pool-1")
    await place.provider.create("pool-2")
    await place.provider.destroy("pool-1")
    await place.provider.destroy("pool-1")
    await place.provider.destroy("pool-9")
    assert place.names() == ["pool-2"]


@pytest.mark.parametrize("what", ["list", "create", "destroy"])
async def test_a_failure_is_said_and_changes_nothing(place: Place, what: str) -> None:
    """Each call raises `ProviderFailed` with a sentence, and works again once the cause is gone."""
    await place.provider.create("pool-1")
    place.fail(what)
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "list": place.provider.list,
        "create": lambda: place.provider.create("pool-2"),
        "destroy": lambda: place.provider.destroy("pool-1"),
    }
    with pytest.raises(ProviderFailed) as failed:
        await calls[what]()
    assert len(str(failed.value)) > 20
    assert place.names() == ["pool-1"]
    place.mend()
    await place.provider.create("pool-2")
    await place.provider.destroy("pool-1")
    assert place.names() == ["pool-2"]


async def test_nothing_is_ordered_when_the_list_fails(place: Place) -> None:
    """Who cannot see what there is orders and destroys nothing."""
    await place.provider.create("pool-1")
    place.fail("list")
    with pytest.raises(ProviderFailed):
        await place.provider.create("pool-1")
    with pytest.raises(ProviderFailed):
        await place.provider.destroy("pool-1")
    assert place.names() == ["pool-1"]
    assert place.orders() == 1
