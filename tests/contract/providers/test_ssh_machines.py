"""The worked example, deploy/providers/ssh-machines, with stand-ins for ssh, docker and the rest.

The script runs as it is; `ssh` runs the remote command here, with a `docker` that notes in a
directory which machine is in the Swarm.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from scaling.ports import ProviderFailed
from scaling.providers.commands import ExecProvider
from scaling.providers.config import ExecConfig, ProviderConfig
from scaling.providers.errors import ProviderRefused
from scaling.snapshot import NodeState
from tests.contract.providers.providers import JOIN, TOKEN, join

SCRIPT = Path(__file__).parents[3] / "deploy" / "providers" / "ssh-machines"

# $STATE/<address>/ is a machine that is switched on; its files say what it is.
SSH = """#!/bin/sh
echo "ssh $*" >>"$STATE/log"
while [ "$1" = -o ]; do shift 2; done
address=$1
shift
[ -d "$STATE/$address" ] || exit 255
PATH="$STATE/remote:$PATH" MACHINE="$STATE/$address" exec sh -c "$*"
"""
DOCKER = """#!/bin/sh
echo "docker $*" >>"$MACHINE/log"
case "$1 $2" in
    "info --format") cat "$MACHINE/state" ;;
    "swarm join") [ "$5" != 10.0.0.1:2377 ] || exit 1; echo active >"$MACHINE/state" ;;
    "swarm leave") echo inactive >"$MACHINE/state" ;;
esac
"""
HOSTNAME = """#!/bin/sh
cat "$MACHINE/hostname"
"""
SYSTEMCTL = """#!/bin/sh
rm -r "$MACHINE"
"""
WAKEONLAN = """#!/bin/sh
mkdir "$STATE/box-$1"
echo inactive >"$STATE/box-$1/state"
echo pool-3 >"$STATE/box-$1/hostname"
"""


class Room:
    """Three machines: two that are always on, one that can be woken up."""

    def __init__(self, directory: Path) -> None:
        self.state = directory / "state"
        tools, remote = directory / "tools", self.state / "remote"
        for folder, name, text in (
            (tools, "ssh", SSH),
            (tools, "wakeonlan", WAKEONLAN),
            (remote, "docker", DOCKER),
            (remote, "hostname", HOSTNAME),
            (remote, "systemctl", SYSTEMCTL),
        ):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
        self.add("box-1", "pool-1")
        self.add("box-2", "wrong")
        hosts = directory / "hosts"
        hosts.write_text(
            "# the room\n\npool-1 box-1  # the old one\npool-2   box-2\npool-3 box-aa aa\n"
        )
        command = (str(SCRIPT), str(hosts))
        config = ProviderConfig(
            kind="exec",
            pool="pool",
            exec=ExecConfig(
                create=(*command, "create", "{name}"),
                list=(*command, "list"),
                destroy=(*command, "destroy", "{name}"),
                pass_environment=("STATE", "WAKE_TRIES"),
            ),
        )
        environment = {
            "PATH": f"{tools}:{os.environ['PATH']}",
            "STATE": str(self.state),
            "WAKE_TRIES": "1",
        }
        self.provider = ExecProvider(config, join, environment)

    def add(self, address: str, hostname: str) -> None:
        """Switch one on."""
        machine = self.state / address
        machine.mkdir()
        (machine / "state").write_text("inactive\n")
        (machine / "hostname").write_text(hostname + "\n")

    async def names(self) -> list[str]:
        """What is listed."""
        return sorted(machine.name for machine in await self.provider.list())


@pytest.fixture
def room(tmp_path: Path) -> Room:
    """All machines out of the Swarm."""
    return Room(tmp_path)


async def test_a_machine_joins_and_leaves(room: Room) -> None:
    """In, listed as running, out again; managers that do not answer are passed over."""
    assert await room.names() == []
    await room.provider.create("pool-1")
    (machine,) = await room.provider.list()
    assert (machine.name, machine.state) == ("pool-1", NodeState.BOOTING)
    assert f"--token {TOKEN} {JOIN.addresses[1]}" in (room.state / "box-1/log").read_text()
    await room.provider.create("pool-1")
    await room.provider.destroy("pool-1")
    assert await room.names() == []


async def test_a_machine_is_woken_up_and_switched_off(room: Room) -> None:
    """With a MAC address it is switched on to join, and off after it has left."""
    await room.provider.create("pool-3")
    assert await room.names() == ["pool-3"]
    await room.provider.destroy("pool-3")
    assert not (room.state / "box-aa").exists()
    assert await room.names() == []


async def test_the_token_goes_through_a_pipe(room: Room) -> None:
    """No argument of ssh, which everybody on this machine can read, has it."""
    await room.provider.create("pool-1")
    log = (room.state / "log").read_text()
    assert "sh -s" in log
    assert TOKEN not in log


def _unplug(room: Room) -> None:
    (room.state / "box-1").rename(room.state / "away")


@pytest.mark.parametrize(
    ("name", "before", "kind", "complaint"),
    [
        ("pool-9", lambda _: None, ProviderRefused, "has no machine called pool-9"),
        ("pool-2", lambda _: None, ProviderRefused, "the host name of box-2 is wrong"),
        ("pool-1", _unplug, ProviderFailed, "exit code 255"),
    ],
)
async def test_what_cannot_be_made_is_said(
    room: Room,
    name: str,
    before: Callable[[Room], None],
    kind: type[ProviderFailed],
    complaint: str,
) -> None:
    """What no try will ever make is refused; what may come back is not."""
    before(room)
    with pytest.raises(ProviderFailed, match=complaint) as failed:
        await room.provider.create(name)
    assert type(failed.value) is kind


def test_it_says_how_it_is_used() -> None:
    """Called without arguments it prints its own first lines."""
    ended = subprocess.run([SCRIPT], capture_output=True, text=True, check=False)
    assert ended.returncode == 64
    assert "ssh-machines FILE create NAME" in ended.stderr
    assert "set -eu" not in ended.stderr
