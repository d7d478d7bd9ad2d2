"""The image of this tree's peer, as the lab makes it and puts it on every node."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from deploy.lab.images import base, peer
from tests.swarm.rig import Swarm, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("peer_image")]


def run_container(swarm: Swarm, node: str, *argv: str) -> tuple[int, str]:
    """Run a program in a new container of the image; return its exit code and what it said."""
    engine = swarm.lab.engine(node)
    order = {"Image": peer.TAG, "Entrypoint": list(argv), "Tty": True}  # Tty: plain text, no frames
    container = engine.post("/containers/create", order)["Id"]
    try:
        engine.post(f"/containers/{container}/start")
        state: dict[str, Any] = wait_for(
            lambda: (
                None
                if (one := engine.get(f"/containers/{container}/json")["State"])["Running"]
                else one
            ),
            60,
            f"{argv[0]} ends",
        )
        said = engine.get(f"/containers/{container}/logs", stdout=True)
        return state["ExitCode"], "" if said is None else str(said)
    finally:
        engine.delete(f"/containers/{container}", force=True)


def test_the_peer_runs_on_every_node(swarm: Swarm) -> None:
    """Both commands are there with all that they import, for a user who is not root."""
    code = "import os, peer.agent, pipeline.ledger.postgres, scaling.ports; print(os.getuid())"
    for node in swarm.lab.plan.members:
        assert run_container(swarm, node.name, "peer", "--help")[0] == 0
        assert run_container(swarm, node.name, "peerctl", "--help")[0] == 0
        assert run_container(swarm, node.name, "python3", "-c", code) == (0, "10001")


def test_every_node_has_the_same_image(swarm: Swarm) -> None:
    """Its identity is the same on every node, as if a registry had served it."""
    images = {
        swarm.lab.engine(node.name).get(f"/images/{peer.TAG}/json")["Id"]
        for node in swarm.lab.plan.members
    }

    assert len(images) == 1


def test_its_ffmpeg_encodes(swarm: Swarm) -> None:
    """The ffmpeg in it encodes what a peer needs, without the parts that the image leaves out."""
    order = (
        "from pipeline.media.tools import find_tools\n"
        "import subprocess\n"
        "tools = find_tools()\n"
        "subprocess.run([tools.ffmpeg, '-loglevel', 'error', '-f', 'lavfi', '-i', 'testsrc=d=1',"
        " '-f', 'lavfi', '-i', 'sine=d=1', '-c:v', 'libx264', '-c:a', 'aac', 'clip.mp4'],"
        f" check=True, cwd={base.HOME!r})\n"
        "print(tools.origin)"
    )

    assert run_container(swarm, "node-2", "python3", "-c", order) == (0, "PATH")


def test_containers_reach_this_machine_and_nothing_else(swarm: Swarm) -> None:
    """What listens on the bridge's address is reached from every node; no packet goes further."""
    with socket.create_server((swarm.lab.plan.gateway, 0)) as server:
        reach = f"import socket; socket.create_connection({server.getsockname()}, 10)"
        for node in swarm.lab.plan.members:
            assert run_container(swarm, node.name, "python3", "-c", reach) == (0, "")

    # An address that documentation may use: nobody's, and so nobody is disturbed if this fails.
    stray = "import socket; socket.create_connection(('198.51.100.1', 80), 10)"
    code, said = run_container(swarm, "node-3", "python3", "-c", stray)
    assert code == 1
    assert "Network is unreachable" in said
