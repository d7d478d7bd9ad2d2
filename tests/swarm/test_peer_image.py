"""The image of this tree's peer, as the lab makes it and puts it on every node."""

from __future__ import annotations

import json
import re
import socket
import tarfile
from pathlib import Path
from typing import Any

import pytest

from deploy.lab.images import base, peer
from deploy.lab.images.cache import CACHE, Cache
from tests.swarm.rig import Swarm, wait_for

ROOT = Path(__file__).parents[2]

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


def test_built_again_it_is_the_same(swarm: Swarm, tmp_path: Path) -> None:
    """Another build of the same tree, with nothing kept of the first, has the same layers to the
    byte; it may have been made on another day, by another engine."""
    engine, again = swarm.lab.engine_to_build_with(), "grapevine:again"
    there = {tag for image in engine.get("/images/json") for tag in image["RepoTags"] or ()}
    try:
        peer.rebuild(Cache(CACHE, print), engine, again, tmp_path)
        layers = [
            engine.get(f"/images/{tag}/json")["RootFS"]["Layers"] for tag in (peer.TAG, again)
        ]
        assert layers[0] == layers[1]
    finally:
        for image in engine.get("/images/json"):
            for tag in set(image["RepoTags"] or ()) - there - {"<none>:<none>"}:
                engine.delete(f"/images/{tag}")
        engine.post("/images/prune", filters={"dangling": {"true": True}})


UNWANTED = re.compile(
    r"(^|/)(\.git|\.env|\.pytest_cache|\.hypothesis|conftest\.py|wheels|pip|secrets)(/|$)"
    r"|^opt/grapevine/lib/python[\d.]+/site-packages/(tests|deploy)(/|$)|\.(pem|key)$"
)
TOLD = re.compile(
    rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/=]{40}|SWMTKN-1-\w{8}"
    rb"|" + re.escape(str(ROOT).encode())
)
"""Keys, tokens, and a place of the machine that built it."""
PUBLIC = re.compile(r"/(certifi|minio|pip/_vendor)/")
"""Certificates of authorities that everybody has."""


def test_no_layer_has_what_is_not_the_products(swarm: Swarm, tmp_path: Path) -> None:
    """In no layer above the base's, one that a later layer covers included, is anything of a
    secret, of the history, of the tests or of the machine that built it."""
    engine = swarm.lab.engine_to_build_with()
    described = engine.get(f"/images/{peer.TAG}/json")["Config"]
    assert described["User"] == "10001:10001"
    assert described["Labels"]["org.opencontainers.image.title"] == "Grapevine"
    assert not [one for one in described["Env"] if re.search("(?i)password|secret|token|key", one)]

    image = tmp_path / "image.tar"
    with image.open("wb") as archive:
        engine.save(peer.TAG, archive)
    found, files = [], 0
    with tarfile.open(image) as archive:
        manifest = archive.extractfile("manifest.json")
        assert manifest is not None
        for name in json.load(manifest)[0]["Layers"][1:]:
            layer = archive.extractfile(name)
            assert layer is not None
            with tarfile.open(fileobj=layer) as entries:
                for entry in entries:
                    if UNWANTED.search(entry.name) and not PUBLIC.search(entry.name):
                        found.append(entry.name)
                    if entry.isfile() and (content := entries.extractfile(entry)) is not None:
                        files += 1
                        text = content.read()
                        found += [f"{entry.name}: {one!r}" for one in TOLD.findall(text)]
    assert files > 1000
    assert found == []
