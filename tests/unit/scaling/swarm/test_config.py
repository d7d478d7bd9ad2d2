"""What is wrong with a Swarm's settings is said by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scaling.swarm.config import SwarmConfig


def test_the_default_is_this_machines_manager() -> None:
    """And its constraint is what the README says that a stack needs."""
    config = SwarmConfig()
    assert config.managers == ("unix:///var/run/docker.sock",)
    assert config.constraint == "node.labels.grapevine.pool==grapevine"


@pytest.mark.parametrize(
    "url",
    ["unix:///run/docker.sock", "tcp://10.0.0.1:2376", "https://[::1]:443/", "http://proxy:2375"],
)
def test_an_address_of_a_manager(url: str) -> None:
    """Sockets, names, and addresses of both kinds."""
    assert SwarmConfig(managers=(url,)).managers == (url,)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"managers": ()}, "managers: name one at least"),
        ({"managers": ("docker.sock",)}, "managers: 'docker.sock' must be unix:///path"),
        ({"managers": ("unix://docker.sock",)}, "must be unix:///path"),
        ({"managers": ("tcp://manager",)}, "tcp://host:2376"),
        ({"managers": ("ssh://manager:22",)}, "must be unix:///path"),
        ({"managers": ("tcp://manager:99999",)}, "tcp://host:2376"),
        ({"managers": ("https://me:secret@manager:443",)}, "https://host:port"),
        ({"service": "a b"}, "service: 'a b' must be 1 to 40 letters"),
        ({"service": "x" * 41}, "1 to 40"),
        ({"pool": ""}, "pool: ''"),
        ({"label": "grapevine pool"}, "label: 'grapevine pool' is no name of a label"),
        ({"key_file": Path("key.pem")}, "certificate_file and key_file go together"),
    ],
)
def test_a_wrong_setting(wrong: dict[str, Any], sentence: str) -> None:
    """The sentence begins with the setting's full name."""
    with pytest.raises(ValueError, match=r"^scaling\.swarm\.") as caught:
        SwarmConfig(**wrong)
    assert sentence in str(caught.value)
