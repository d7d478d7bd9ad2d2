"""Apache Libcloud: whose machines they are, what goes wrong, and whether drivers take our words."""

from __future__ import annotations

import base64
import inspect
import logging
import sys
from typing import Any

import pytest
import trio
from libcloud.compute.base import NodeDriver
from libcloud.compute.providers import get_driver
from libcloud.compute.types import NodeState as CloudState

from scaling.ports import ProviderFailed
from scaling.providers.cloud import GONE, STATES, LibcloudProvider
from scaling.providers.config import LibcloudConfig
from scaling.providers.dialects import DIALECTS, MARK, Order, dialect_of
from scaling.providers.errors import ProviderRefused
from scaling.snapshot import NodeState
from tests.contract.providers.providers import (
    TOKEN,
    FakeCloud,
    FakeDriver,
    Gate,
    cloud_config,
    join,
)


@pytest.fixture
def cloud() -> FakeCloud:
    """A cloud with nothing in it."""
    return FakeCloud()


def _provider(cloud: FakeCloud, **more: Any) -> LibcloudProvider:
    return LibcloudProvider(cloud_config(**more), join, open_driver=lambda: FakeDriver(cloud))


def _ours() -> dict[str, Any]:
    return {"tags": {MARK: "here"}}


async def test_only_what_bears_our_mark_is_ours(cloud: FakeCloud) -> None:
    """Machines of others, and of another cluster, are neither listed nor destroyed."""
    driver, provider = FakeDriver(cloud), _provider(cloud)
    driver.add("pool-1", {"tags": {MARK: "there"}})
    driver.add("pool-1", {"tags": {"Name": "pool-1"}})
    driver.add("pool-1", {})
    assert list(await provider.list()) == []
    await provider.destroy("pool-1")
    assert len(cloud.nodes) == 3
    await provider.create("pool-1")
    assert [machine.name for machine in await provider.list()] == ["pool-1"]
    assert len(cloud.nodes) == 4


async def test_a_machine_gets_its_user_data_and_its_mark_with_the_order(cloud: FakeCloud) -> None:
    """There is no moment at which a machine exists and is nobody's."""
    await _provider(cloud, node_arguments={"ex_keyname": "ops"}).create("pool-1")
    (order,) = (arguments for name, arguments in cloud.calls if name == "create_node")
    assert order["ex_keyname"] == "ops"
    assert order["ex_userdata"].startswith("#cloud-config\n")
    assert TOKEN in order["ex_userdata"]
    assert cloud.nodes[0].extra["tags"][MARK] == "here"


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (CloudState.PENDING, [NodeState.BOOTING]),
        (CloudState.RUNNING, [NodeState.BOOTING]),
        (CloudState.STOPPED, [NodeState.DOWN]),
        (CloudState.ERROR, [NodeState.DOWN]),
        (CloudState.UNKNOWN, [NodeState.UNKNOWN]),
        (CloudState.TERMINATED, []),
    ],
)
async def test_states_are_translated(
    cloud: FakeCloud, state: CloudState, expected: list[NodeState]
) -> None:
    """What is terminated does not exist, whatever a list still shows; age comes along."""
    FakeDriver(cloud).add("pool-1", _ours(), state)
    machines = await _provider(cloud).list()
    assert [machine.state for machine in machines] == expected
    assert all(machine.age_s is not None and 55 < machine.age_s < 600 for machine in machines)


def test_every_state_of_libcloud_is_known() -> None:
    """A state that libcloud has and we have not would make a machine unknown for ever."""
    assert {state.value for state in CloudState} == {*STATES, GONE}


async def test_of_two_that_were_made_at_once_one_stays(cloud: FakeCloud) -> None:
    """Two leaders that both order see both machines afterwards, and agree on which one goes."""
    rival = FakeDriver(cloud)
    cloud.before_create = lambda: None if cloud.nodes else (rival.add("pool-1", _ours()), None)[1]
    await _provider(cloud).create("pool-1")
    assert cloud.made == 1
    (left,) = cloud.nodes
    cloud.before_create = lambda: None
    await _provider(cloud).create("pool-1")
    assert cloud.nodes == [left]


async def test_creating_again_clears_away_a_second_one(cloud: FakeCloud) -> None:
    """Two of a name are both listed; creating that name leaves the older, destroying it none."""
    driver, provider = FakeDriver(cloud), _provider(cloud)
    older, _ = driver.add("pool-1", _ours()), driver.add("pool-1", _ours())
    assert [machine.name for machine in await provider.list()] == ["pool-1", "pool-1"]
    await provider.create("pool-1")
    assert [node.id for node in cloud.nodes] == [older.id]
    driver.add("pool-1", _ours())
    await provider.destroy("pool-1")
    assert cloud.nodes == []


async def test_a_slow_order_is_seen_by_the_next_look(cloud: FakeCloud) -> None:
    """A call that was given up goes on in its thread; the next one waits and sees its work."""
    gate = Gate()
    cloud.before_create = gate.pass_through
    provider = _provider(cloud, call_timeout_s=0.5, request_timeout_s=0.5)
    with pytest.raises(ProviderFailed, match=r"cannot order pool-1 at ec2: .* 0\.5 s"):
        await provider.create("pool-1")
    assert gate.reached.is_set()
    with pytest.raises(ProviderFailed, match="cannot list"):
        await provider.list()
    gate.open()
    with trio.fail_after(20):
        while True:
            try:
                machines = await provider.list()
            except ProviderFailed:
                continue
            break
    assert [machine.name for machine in machines] == ["pool-1"]
    await provider.create("pool-1")
    assert cloud.made == 1


async def test_an_error_after_the_order_makes_no_second_one(cloud: FakeCloud) -> None:
    """When the cloud did as asked and the answer got lost, the repeat finds what was made."""

    def lose() -> None:
        raise ConnectionResetError(104, "Connection reset by peer")

    cloud.after_create = lose
    with pytest.raises(ProviderFailed, match="cannot be reached"):
        await _provider(cloud).create("pool-1")
    cloud.after_create = lambda: None
    await _provider(cloud).create("pool-1")
    assert cloud.made == 1


async def test_what_the_user_wrote_is_the_user_data(cloud: FakeCloud, tmp_path: Any) -> None:
    """A file of the user's own has the three values filled in; one that is missing is refused."""
    file = tmp_path / "user-data"
    file.write_text(
        "#!/bin/sh\njoin ${GRAPEVINE_NODE_NAME} ${GRAPEVINE_JOIN_TOKEN} "
        "${GRAPEVINE_JOIN_ADDRESSES} ${OTHER}\n"
    )
    provider = _provider(cloud, user_data_file=file)
    await provider.create("pool-1")
    order = dict(cloud.calls)["create_node"]
    expected = f"#!/bin/sh\njoin pool-1 {TOKEN} 10.0.0.1:2377,10.0.0.2:2377 ${{OTHER}}\n"
    assert order["ex_userdata"] == expected
    file.unlink()
    with pytest.raises(ProviderRefused, match="cannot read"):
        await provider.create("pool-2")


async def test_the_token_is_in_no_error_and_no_log(
    cloud: FakeCloud, caplog: pytest.LogCaptureFixture
) -> None:
    """Not even when a driver's error holds the whole request, plain or encoded."""
    import requests  # noqa: PLC0415 - comes with libcloud

    caplog.set_level(logging.DEBUG)
    data = base64.b64encode(TOKEN.encode()).decode()
    for error in (
        requests.exceptions.ConnectionError(f"Max retries exceeded with url: /?UserData={data}"),
        Exception(f"bad request: {TOKEN}"),
    ):

        def fail(error: Exception = error) -> None:
            raise error

        cloud.before_create = fail
        with pytest.raises(ProviderFailed) as failed:
            await _provider(cloud).create("pool-1")
        said = f"{failed.value!r} {failed.value.__cause__!r} {caplog.text}"
        assert TOKEN not in said
        assert data not in said
        assert failed.value.__suppress_context__


def _config(provider: str, **more: Any) -> LibcloudConfig:
    settings: dict[str, Any] = {
        "key": "k",
        "secret": "s",
        "region": "here-1",
        "size": "m1",
        "image": "i-1",
        **more,
    }
    return LibcloudConfig(provider=provider, **settings)


class _Asked:
    """A driver that has one of everything."""

    name = "asked"

    class _One:
        id, name = "m1", "m1"

    def list_sizes(self) -> list[Any]:
        return [self._One()]

    def ex_list_networks(self) -> list[Any]:
        return [self._One()]


DRIVERS = {
    # The classes behind those that choose one of several by the API's version.
    "openstack": ("libcloud.compute.drivers.openstack", "OpenStack_2_NodeDriver"),
    "digitalocean": ("libcloud.compute.drivers.digitalocean", "DigitalOcean_v2_NodeDriver"),
    "linode": ("libcloud.compute.drivers.linode", "LinodeNodeDriverV4"),
}


def _driver_class(provider: str) -> type[NodeDriver]:
    if provider in DRIVERS:
        module, name = DRIVERS[provider]
        __import__(module)
        found: type[NodeDriver] = getattr(sys.modules[module], name)
        return found
    return get_driver(provider)


@pytest.mark.parametrize("provider", sorted(DIALECTS))
def test_the_drivers_take_what_they_are_given(provider: str) -> None:
    """Every argument of an order, and of a list, is one of the real driver's own."""
    order = Order(name="pool-1", cluster="here", user_data="DATA", config=_config(provider))
    dialect = dialect_of(provider)
    arguments = dialect.order(_Asked(), order)
    driver = _driver_class(provider)
    inspect.signature(driver.create_node).bind(None, name="pool-1", **arguments)
    inspect.signature(driver.list_nodes).bind(None, **dialect.listing("here"))
    spoken = repr(sorted((key, repr(value)) for key, value in arguments.items()))
    assert "DATA" in spoken
    assert MARK in spoken
    assert "here" in spoken


@pytest.mark.parametrize("provider", sorted(DIALECTS))
def test_what_is_marked_is_recognized(provider: str) -> None:
    """The mark that an order gives is the one that a list looks for, and no other."""
    extras: dict[str, list[dict[str, Any]]] = {
        "ec2": [{"tags": {MARK: "here"}}, {"tags": {}}],
        "openstack": [{"metadata": {MARK: "here"}}, {"metadata": {}}],
        "digitalocean": [{"tags": ["web", f"{MARK}:here"]}, {"tags": ["web"]}],
        "linode": [{"tags": [f"{MARK}:here"]}, {"tags": []}],
        "gce": [{"labels": {MARK: "here"}}, {"labels": None}],
    }
    driver = FakeDriver(FakeCloud())
    marked, unmarked = (driver.add("pool-1", extra) for extra in extras[provider])
    mark_of = dialect_of(provider).mark_of
    assert mark_of(marked) == "here"
    assert mark_of(unmarked) is None


@pytest.mark.parametrize("provider", ["ec2", "digitalocean", "linode", "openstack"])
def test_sockets_have_time_outs(provider: str) -> None:
    """The real driver opens with ours; a thread that waits for ever could never be used again."""
    arguments = {"ex_force_auth_url": "http://127.0.0.1:1"} if provider == "openstack" else {}
    region = "eu-west-1" if provider == "ec2" else ""
    config = cloud_config(
        provider=provider, region=region, request_timeout_s=7.0, driver_arguments=arguments
    )
    driver = LibcloudProvider(config, join)._open_driver()
    assert driver.connection.timeout == 7.0


@pytest.mark.parametrize("provider", ["vultr", "azure_arm", "upcloud", "hetzner", "../x"])
def test_drivers_that_cannot_are_refused(provider: str) -> None:
    """With a sentence that names those that can, and the way out."""
    with pytest.raises(ProviderRefused, match="kind = 'exec'") as refused:
        LibcloudProvider(cloud_config(provider=provider), join)
    assert "digitalocean, ec2" in str(refused.value)


@pytest.mark.parametrize(
    ("provider", "more", "complaint"),
    [
        ("digitalocean", {"network": "lan"}, "network: .* has none"),
        ("linode", {"security_groups": ("a",)}, "security_groups: .* has none"),
        ("gce", {"security_groups": ("a",)}, "firewall rules"),
        ("openstack", {"size": "huge"}, "size: the cloud has none called 'huge'; it has m1"),
        ("openstack", {"network": "lan"}, "network: the cloud has none called 'lan'"),
    ],
)
def test_what_a_cloud_has_not_is_said(provider: str, more: dict[str, Any], complaint: str) -> None:
    """A setting that would do nothing, or that names nothing, is refused before the order."""
    order = Order(name="a", cluster="b", user_data="", config=_config(provider, **more))
    with pytest.raises(ProviderRefused, match=complaint):
        dialect_of(provider).order(_Asked(), order)


def test_security_groups_of_ec2_are_ids_or_names() -> None:
    """Both forms go where the API wants them."""
    config = _config("ec2", network="subnet-1", security_groups=("sg-1", "web"))
    order = Order(name="a", cluster="b", user_data="", config=config)
    arguments = dialect_of("ec2").order(None, order)
    assert arguments["ex_security_group_ids"] == ["sg-1"]
    assert arguments["ex_security_groups"] == ["web"]
    assert arguments["ex_subnet"].id == "subnet-1"


def test_without_libcloud_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package is optional; whoever asks for it without having it reads one sentence."""
    monkeypatch.setitem(sys.modules, "libcloud", None)
    with pytest.raises(ProviderRefused, match=r"pip install 'grapevine\[cloud\]'"):
        LibcloudProvider(cloud_config(), join)
