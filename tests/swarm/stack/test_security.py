"""What SECURITY.md promises of a cluster, on a real one: the stack as it is, and a stranger.

The stranger is a container on the stack's own network, with the product's own image and programs,
and without the cluster's key: whoever gets as far as that. He tries to join, to read and to speak.
"""

from __future__ import annotations

import json
import re
import sys
import zlib
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from deploy.lab import machine
from deploy.lab.containers import Container
from deploy.lab.engine import Done, Engine
from deploy.lab.errors import LabError
from deploy.lab.images import peer
from deploy.lab.stack import NAME, Stack
from tests.swarm.reset import find_manager
from tests.swarm.rig import wait_for

pytestmark = pytest.mark.slow

STRANGER = "stranger"
WITHIN_S = 120.0
SECRETS = ("gossip_key", "ledger_url", "queue_url", "store_user", "store_password")
GOSSIP_PORT = 7946
HEADER_BYTES = 24
"""Of a datagram, in the clear: who sends, in which life, and the how manieth."""
FORGED = 200

# As whoever carries the datagrams sees them: inside the nodes' own packets (VXLAN), unencrypted.
CAPTURE = """
import json, socket, struct, sys, time
port, count, within_s = map(int, sys.argv[1:])
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
wire.bind(("eth0", 0))
wire.settimeout(1)
def udp(packet, to):
    if packet[12:14] != b"\\x08\\x00" or packet[23] != 17:
        return None
    start = 14 + 4 * (packet[14] & 15)
    if struct.unpack_from(">H", packet, start + 2)[0] != to:
        return None
    length = struct.unpack_from(">H", packet, start + 4)[0]
    return packet[start + 8 : start + length]
seen, deadline = [], time.monotonic() + within_s
while len(seen) < count and time.monotonic() < deadline:
    try:
        outer = udp(wire.recv(65535), 4789)
    except TimeoutError:
        continue
    inner = outer[8:] if outer else None
    said = udp(inner, port) if inner else None
    if said:
        seen.append([socket.inet_ntoa(inner[30:34]), said.hex()])
print(json.dumps(seen))
"""

SEND = """
import json, os, random, socket, sys
port, forged = int(sys.argv[1]), int(sys.argv[2])
recorded = [(to, bytes.fromhex(said)) for to, said in json.loads(sys.argv[3])]
chance = random.Random(7)
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
    for to, said in recorded:
        for other in {to for to, _ in recorded}:
            sender.sendto(said, (other, port))
    for _ in range(forged):
        to, said = chance.choice(recorded)
        changed = bytearray(said)
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
        sender.sendto(changed, (to, port))
        sender.sendto(os.urandom(len(said)), (to, port))
"""

COUNTERS = """
from pathlib import Path
from peer.client import find_peer
from peer.config import load
from peer.paths import Places
print(find_peer(Places(load().peer.data_dir), socket_path=None, name=None).ask("metrics"))
"""

REACH = """
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor
def reach(door):
    try:
        socket.create_connection(tuple(door), 3).close()
        return "reached"
    except OSError as error:
        return type(error).__name__
doors = json.loads(sys.argv[1])
with ThreadPoolExecutor(len(doors)) as pool:
    found = {f"{host}:{port}": how for (host, port), how in zip(doors, pool.map(reach, doors))}
for name in ("gate", "tasks.gate"):
    try:
        found[name] = socket.gethostbyname(name)
    except OSError:
        pass
print(json.dumps(found))
"""

LISTEN = """
import socket
with socket.create_server(("0.0.0.0", 8080)) as server:
    print("listening", flush=True)
    server.accept()
    print("somebody called", flush=True)
"""


class Stranger:
    """A container on the stack's network, on the last node, that has no secret.

    Args:
        stack: Whose network it is on.
    """

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        manager = find_manager(stack.lab)
        node = stack.lab.plan.members[-1].name
        self._engine = stack.lab.engine(node)
        container = {
            "Image": peer.TAG,
            "Command": ["python3", "-c", LISTEN],
            "Healthcheck": {"Test": ["NONE"]},  # the image's is a peer's
        }
        spec = {
            "Name": STRANGER,
            "TaskTemplate": {
                "ContainerSpec": container,
                "Networks": [{"Target": f"{NAME}_inside"}],
                "Placement": {"Constraints": [f"node.hostname=={node}"]},
            },
            "Mode": {"Replicated": {"Replicas": 1}},
            "EndpointSpec": {"Mode": "dnsrr"},
        }
        manager.post("/services/create", spec)
        self.container: str = wait_for(self._find, WITHIN_S, "the stranger runs")

    def _find(self) -> str | None:
        label = {"label": [f"com.docker.swarm.service.name={STRANGER}"]}
        for one in self._engine.get("/containers/json", filters=label):
            if "listening" in self._engine.logs(one["Id"]):
                return str(one["Id"])
        return None

    @property
    def addresses(self) -> set[str]:
        """Its own."""
        found = self._engine.get(f"/containers/{self.container}/json")
        return {one["IPAddress"] for one in found["NetworkSettings"]["Networks"].values()}

    def execute(self, *argv: str) -> Done:
        """Do something."""
        return self._engine.execute(self.container, argv)

    def heard(self) -> str:
        """What its listener has to say."""
        return self._engine.logs(self.container)


@pytest.fixture(scope="module")
def stranger(stack: Stack) -> Iterator[Stranger]:
    """One for all tests of this file."""
    stranger = Stranger(stack)
    yield stranger
    with suppress(LabError):
        find_manager(stack.lab).delete(f"/services/{STRANGER}")


def members(stack: Stack) -> list[Container]:
    """The containers that have a peer."""
    return [one for one in stack.containers() if one.service in {"seed", "peer"}]


def whom(stack: Stack, one: Container) -> dict[str, tuple[Any, ...]]:
    """Whom a peer knows, as far as that stays the same while nothing happens."""
    return {
        row["name"]: (row["state"], row["address"], row["incarnation"]) for row in stack.table(one)
    }


def dropped(stack: Stack, one: Container) -> dict[str, float]:
    """How many datagrams a peer has thrown away, by reason."""
    said = stack.execute(one, "python3", "-c", COUNTERS).output
    pattern = r'^grapevine_gossip_datagrams_dropped_total\{reason="(\w+)"\} ([0-9.]+)$'
    return {name: float(count) for name, count in re.findall(pattern, said, re.MULTILINE)}


def capture(stack: Stack, node: str, count: int) -> list[tuple[str, str]]:
    """Datagrams of gossip on a node's cable: to which address, and what, as hexadecimal digits."""
    order = (sys.executable, "-I", "-c", CAPTURE, str(GOSSIP_PORT), str(count), "20")
    found = json.loads(machine.execute(stack.lab.plan.node(node), *order))
    assert len(found) == count
    return [(to, said) for to, said in found]


def everybody_knows_everybody(stack: Stack) -> bool:
    """Whether each peer has each for alive."""
    there = members(stack)
    tables = [whom(stack, one) for one in there]
    return all(
        sum(state == "alive" for state, *_ in table.values()) == len(there) for table in tables
    )


def test_whoever_carries_gossip_cannot_read_it(stack: Stack) -> None:
    """No name, no address, nothing that repeats: what goes over the cable looks like noise."""
    wait_for(lambda: everybody_knows_everybody(stack), WITHIN_S, "all know all")
    node = next(one.node for one in members(stack) if one.service == "peer")
    said = [bytes.fromhex(text) for _, text in capture(stack, node, 60)]
    names = {one.task_name for one in members(stack)} | {one.task for one in members(stack)}
    names |= {one.node for one in members(stack)} | {"seed", "peer", "alive", "grapevine", "10.0."}
    for datagram in said:
        for name in names:
            assert name.encode() not in datagram
    # One datagram goes to several; behind its header each is noise, which cannot be made shorter.
    sealed = b"".join(datagram[HEADER_BYTES:] for datagram in dict.fromkeys(said))
    assert len(sealed) > 1000
    assert len(zlib.compress(sealed, 9)) >= len(sealed)


def test_a_stranger_cannot_speak(stack: Stack, stranger: Stranger) -> None:
    """What he has recorded, what he has changed and what he makes up is dropped and counted; no
    peer believes anything else about anybody."""
    wait_for(lambda: everybody_knows_everybody(stack), WITHIN_S, "all know all")
    node = next(one.node for one in members(stack) if one.service == "peer")
    recorded = capture(stack, node, 40)
    before = {one.name: (whom(stack, one), dropped(stack, one)) for one in members(stack)}
    done = stranger.execute(
        "python3", "-c", SEND, str(GOSSIP_PORT), str(FORGED), json.dumps(recorded)
    )
    assert done.exit_code == 0, done.errors

    def more() -> dict[str, float]:
        """By reason, all peers together."""
        found: dict[str, float] = {}
        for one in members(stack):
            for reason, count in dropped(stack, one).items():
                found[reason] = found.get(reason, 0) + count - before[one.name][1][reason]
        return found

    # A changed datagram may pass for a repeated one: its number is looked at first.
    sent = 2 * FORGED + len(recorded)
    wait_for(lambda: sum(more().values()) >= sent, 30, "what was sent is counted")
    refused = more()
    assert refused["replay"] > 0
    assert refused["version"] + refused["key"] + refused["forged"] >= FORGED
    assert refused["malformed"] == 0
    for one in members(stack):
        assert whom(stack, one) == before[one.name][0]


JOIN = {
    "GRAPEVINE_PEER_NAME": "the-stranger",
    "GRAPEVINE_PEER_DATA_DIR": "/tmp/stranger",
    "GRAPEVINE_PEER_SLOTS": "0",
    "GRAPEVINE_LEDGER_URL": "postgresql://nobody:nothing@127.0.0.1:9/film",
    "GRAPEVINE_QUEUE_URL": "amqp://nobody:nothing@127.0.0.1:9/",
    "GRAPEVINE_STORE_S3_ENDPOINT": "http://127.0.0.1:9",
    "GRAPEVINE_STORE_S3_ACCESS_KEY": "nobody",
    "GRAPEVINE_STORE_S3_SECRET_KEY": "nothing",
    "GRAPEVINE_GOSSIP_JOIN": "tasks.seed,tasks.peer",
}


def test_a_stranger_cannot_join(stack: Stack, stranger: Stranger) -> None:
    """His peer does not start without a key. With another one it is heard and refused: he knows
    nobody, and nobody knows him."""
    settings = [f"{name}={value}" for name, value in JOIN.items()]
    done = stranger.execute("env", *settings, "timeout", "30", "peer")
    assert done.exit_code not in {0, 124}
    assert "gossip with other machines needs a key" in done.errors

    settings.append("GRAPEVINE_GOSSIP_KEY=" + "5a" * 32)
    before = {one.name: dropped(stack, one)["key"] for one in members(stack)}
    begin = 'env "$@" peer >/tmp/stranger.log 2>&1 & echo $!'
    process = stranger.execute("sh", "-c", begin, "sh", *settings).output.strip()
    try:
        wait_for(
            lambda: all(dropped(stack, one)["key"] > before[one.name] for one in members(stack)),
            WITHIN_S,
            "every peer has refused the stranger",
        )
        told = stranger.execute("env", *settings, "peerctl", "table", "--json").output
        (alone,) = json.loads(told)["members"]
        assert alone["name"] == "the-stranger"
    finally:
        stranger.execute("sh", "-c", 'kill "$0"', process)
    for one in members(stack):
        known = whom(stack, one)
        assert "the-stranger" not in known
        addresses = {address.rpartition(":")[0] for _, address, _ in known.values()}
        assert not addresses & stranger.addresses


def test_a_worker_cannot_reach_docker(stack: Stack) -> None:
    """No socket, no network of the gate, and no port of any node or manager."""
    worker = next(one for one in members(stack) if one.service == "peer")
    hosts = [node.address for node in stack.lab.plan.members] + [stack.lab.plan.gateway]
    own = stack.execute(
        worker, "python3", "-c", "import socket; print(socket.gethostbyname('seed'))"
    )
    hosts += [own.output.strip().rpartition(".")[0] + ".1", "172.17.0.1", "172.18.0.1"]
    doors = [(host, port) for host in hosts for port in (2375, 2376, 2377, 4243, 7946)]
    done = stack.execute(worker, "python3", "-c", REACH, json.dumps(doors), within_s=WITHIN_S)
    found = json.loads(done.output)
    assert len(found) == len(doors), found
    assert "reached" not in found.values(), found
    for path in ("/var/run/docker.sock", "/run/docker.sock", "/run/grapevine/docker.sock"):
        assert stack.execute(worker, "test", "-e", path).exit_code == 1


def test_a_worker_holds_its_encoder_back(stack: Stack) -> None:
    """The fence holds in a container without capabilities: no calls out; and no foreign files,
    where Docker lets Landlock through (before release 23 it may not, and the peer says so)."""
    worker = next(one for one in members(stack) if one.service == "peer")
    look = "from pipeline.media.confinement import attempt as a\nprint([*a().values()])"
    done = stack.execute(worker, "python3", "-c", look)
    release = int(find_manager(stack.lab).get("/version")["Version"].partition(".")[0])
    allowed = {str(["", ""])}
    if release < 23:
        allowed.add(str(["Operation not permitted", ""]))
    assert done.output.strip() in allowed


def test_work_is_done_and_a_hostile_video_gets_nothing(stack: Stack, stranger: Stranger) -> None:
    """On a read-only root a video is transcoded; a playlist that is called one, and names a secret
    and the stranger, is refused: nobody was called, and no secret is in what is told of it."""
    worker = next(one for one in members(stack) if one.service == "peer")
    (address,) = [one for one in stranger.addresses if one]
    bad = f"#EXTM3U\n#EXTINF:1,\nhttp://{address}:8080/x.ts\n#EXTINF:1,\n/run/secrets/ledger_url\n"
    make = (
        "import subprocess, pathlib\n"
        "subprocess.run(['ffmpeg', '-v', 'error', '-f', 'lavfi', '-i', 'testsrc=s=128x96:d=1',"
        " '/tmp/good.mp4'], check=True)\n"
        f"pathlib.Path('/tmp/bad.mp4').write_text({bad!r})\n"
    )
    assert stack.execute(worker, "python3", "-c", make).exit_code == 0
    tasks = {}
    for name in ("good", "bad"):
        done = stack.execute(
            worker, "peerctl", "submit", f"/tmp/{name}.mp4", "--ladder", "64x48@50k"
        )
        assert done.exit_code == 0, done.errors
        tasks[name] = done.output.split()[0]

    def task(name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(
            stack.execute(worker, "peerctl", "task", tasks[name], "--json").output
        )
        return found

    wait_for(lambda: task("good")["state"] == "done", WITHIN_S, "the video is done")
    wait_for(lambda: task("bad")["state"] == "escalated", WITHIN_S, "the playlist is refused")
    secret = stack.execute(worker, "cat", "/run/secrets/ledger_url").output.strip()
    told = json.dumps(task("bad")) + stack.peerctl("events", "--json").output
    assert secret not in told
    assert secret.rpartition("@")[0].rpartition(":")[2] not in told
    assert "somebody called" not in stranger.heard()


def test_no_secret_is_in_a_log_or_a_specification(stack: Stack) -> None:
    """Not in what any container of the stack has written, not in how services and containers are
    described to whoever may ask Docker."""
    worker = next(one for one in members(stack) if one.service == "peer")
    texts = [stack.execute(worker, "cat", f"/run/secrets/{name}").output for name in SECRETS]
    secrets = {text.strip() for text in texts}
    secrets |= {text.rpartition("@")[0].rpartition(":")[2] for text in secrets if "://" in text}
    secrets.discard("grapevine")
    assert len(secrets) >= len(SECRETS)
    assert all(len(secret) >= 8 for secret in secrets), "too short to be searched for"
    told = {f"the log of {log.name}": log.text for log in stack.logs()}
    told["the services"] = json.dumps(stack.services())
    for one in stack.containers():
        engine: Engine = stack.lab.engine(one.node)
        told[f"the container {one.name}"] = json.dumps(engine.get(f"/containers/{one.id}/json"))
    for where, text in told.items():
        for secret in secrets:
            assert secret not in text, where
