"""libcloud's real DigitalOcean driver over real HTTP: its errors are its own, and become ours."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from libcloud.compute.providers import get_driver

from scaling.ports import ProviderFailed
from scaling.providers.cloud import LibcloudProvider
from scaling.snapshot import NodeState
from tests.contract.providers.droplets import Droplets, serve_droplets
from tests.contract.providers.providers import TOKEN, cloud_config, join

CONFIG = cloud_config(
    provider="digitalocean",
    secret=None,
    region="fra1",
    size="s-4vcpu-8gb",
    image="123",
    request_timeout_s=1.0,
    node_arguments={"ex_create_attr": {"ssh_keys": [7], "tags": ["media"]}},
)


@pytest.fixture
def droplets() -> Iterator[Droplets]:
    """The API, with nothing in it."""
    with serve_droplets() as world:
        yield world


def _provider(port: int) -> LibcloudProvider:
    def open_driver() -> Any:
        driver: Any = get_driver("digitalocean")("key")
        # This driver takes neither host nor time-out; the connection does.
        driver.connection.host, driver.connection.port = "127.0.0.1", port
        driver.connection.secure, driver.connection.timeout = False, 1.0
        driver.connection.connect()
        return driver

    return LibcloudProvider(CONFIG, join, open_driver=open_driver)


async def test_an_order_through_the_real_driver(droplets: Droplets) -> None:
    """Name, size, image, region, user data, tags and the user's own arguments arrive."""
    provider = _provider(droplets.port)
    await provider.create("pool-1")
    (order,) = droplets.orders
    assert TOKEN in order.pop("user_data")
    assert order == {
        "name": "pool-1",
        "size": "s-4vcpu-8gb",
        "image": "123",
        "region": "fra1",
        "ssh_keys": [7],
        "tags": ["media", "grapevine-cluster:here"],
    }
    (machine,) = await provider.list()
    assert (machine.name, machine.state) == ("pool-1", NodeState.BOOTING)
    assert machine.age_s is not None
    await provider.create("pool-1")
    assert len(droplets.orders) == 1
    await provider.destroy("pool-1")
    assert droplets.droplets == []


ANSWERS = [
    ((401, {}, b'{"id": "unauthorized", "message": "Unable to authenticate you"}'), "credentials"),
    ((429, {"Retry-After": "37"}, b'{"message": "Too many requests"}'), "left alone for 37 s"),
    ((429, {}, b'{"message": "Too many requests"}'), "wants to be left alone$"),
    ((422, {}, b'{"message": "size is not available"}'), "422: size is not available"),
    ((503, {}, b'{"message": "down for maintenance"}'), "503: down for maintenance"),
    ((500, {}, b"<html>oops</html>"), "500|cannot read"),
    ((200, {}, b"<html>a captive portal</html>"), "is that really its API"),
    ((200, {}, b"{}"), "at digitalocean: "),
    ((200, {}, b'{"droplets": [{"name": "pool-1"}], "links": {}}'), "at digitalocean: "),
]


@pytest.mark.parametrize(("answer", "complaint"), ANSWERS)
async def test_each_answer_has_its_sentence(
    droplets: Droplets, answer: tuple[int, dict[str, str], bytes], complaint: str
) -> None:
    """Whatever the cloud answers, it is `ProviderFailed`, and nothing is ordered on it."""
    droplets.answer = answer
    provider = _provider(droplets.port)
    with pytest.raises(ProviderFailed, match=complaint):
        await provider.create("pool-1")
    assert droplets.orders == []
    droplets.answer = None
    await provider.create("pool-1")
    assert [droplet["name"] for droplet in droplets.droplets] == ["pool-1"]


async def test_a_silent_cloud(droplets: Droplets) -> None:
    """A request without an answer ends by its socket's time-out, and the thread is free again."""
    droplets.silent = threading.Event()
    provider = _provider(droplets.port)
    with pytest.raises(ProviderFailed, match="did not answer in time"):
        await provider.list()
    droplets.silent.set()
    droplets.silent = None
    assert list(await provider.list()) == []


async def test_a_cloud_that_is_not_there() -> None:
    """A refused connection is said as such."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        with pytest.raises(ProviderFailed, match=r"cannot be reached \(ConnectionError\)"):
            await _provider(port).list()
