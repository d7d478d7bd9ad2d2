"""The gate in the face of somebody who wants the Docker socket behind it.

The other side is the fake Swarm, which keeps a list of all that was written to it. Each of these
must leave that list as it was, and be answered with a sentence.
"""

from __future__ import annotations

import copy
import json
import os
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from scaling.swarm import nodes
from scaling.swarm.config import SwarmConfig
from scaling.swarm.proxy.asking import BODY_BYTES_MAX
from tests.servers.docker_gate import DockerGate
from tests.servers.fake_swarm import FakeSwarm

SERVICE = "grapevine_peer"
ANSWER_S = 20.0

Json = dict[str, Any]


@dataclass
class Scene:
    """A Swarm of a manager, a worker of ours and a stranger's worker, and the gate before it."""

    swarm: FakeSwarm
    gate: DockerGate
    config: SwarmConfig

    @property
    def service(self) -> Json:
        return self.swarm.service(SERVICE)

    def node(self, name: str) -> Json:
        return self.swarm.node(name)

    def send(self, raw: bytes) -> tuple[int, str]:
        """Send bytes as they are; the status and the rest of the first answer, 0 for none."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.settimeout(ANSWER_S)
            line.connect(str(self.gate.socket))
            said = b""
            # It may hang up on what is too long, and what it said of it is lost then.
            with suppress(ConnectionResetError, BrokenPipeError):
                line.sendall(raw)
                line.shutdown(socket.SHUT_WR)
                while piece := line.recv(65536):
                    said += piece
        head, _, body = said.partition(b"\r\n\r\n")
        return (int(head.split()[1]) if head else 0), body.decode()

    def ask(self, method: str, target: str, body: Any = None, *headers: str) -> tuple[int, str]:
        """Send a request that is well made."""
        content = b"" if body is None else json.dumps(body).encode()
        lines = [f"{method} {target} HTTP/1.1", "Host: docker", *headers]
        if content:
            lines.append(f"Content-Length: {len(content)}")
        return self.send("\r\n".join([*lines, "", ""]).encode() + content)


@pytest.fixture
def scene() -> Iterator[Scene]:
    with FakeSwarm() as swarm:
        swarm.add_manager("boss")
        swarm.add_worker("node-2")
        swarm.add_worker("stranger")
        config = SwarmConfig(managers=swarm.managers, service=SERVICE)
        swarm.label("node-2", **{config.label: config.pool})
        swarm.label("stranger", owner="somebody")
        swarm.create_service(SERVICE, 2, Placement={"Constraints": [config.constraint]})
        swarm.create_service("database", 1)
        engine = Path(swarm.managers[0].removeprefix("unix://"))
        with DockerGate(engine, config) as gate:
            yield Scene(swarm, gate, config)


def test_the_socket_is_for_this_user_and_group(scene: Scene) -> None:
    """Nobody else of the machine may connect."""
    mode = stat.S_IMODE(os.stat(scene.gate.socket).st_mode)  # noqa: PTH116
    assert mode == 0o660


FORBIDDEN = [
    ("GET", "/containers/json"),
    ("POST", "/containers/create"),
    ("POST", "/containers/abc/exec"),
    ("POST", "/exec/abc/start"),
    ("POST", "/build"),
    ("POST", "/images/create?fromImage=evil"),
    ("GET", "/secrets"),
    ("GET", "/secrets/key"),
    ("POST", "/secrets/create"),
    ("GET", "/services"),
    ("POST", "/services/create"),
    ("DELETE", f"/services/{SERVICE}"),
    ("GET", "/services/database"),
    ("GET", f"/services/{SERVICE}/logs?stdout=1"),
    ("GET", f"/services/{SERVICE}?insertDefaults=true"),
    ("GET", "/tasks/abc/logs?stdout=1"),
    ("GET", "/tasks"),
    ("GET", '/tasks?filters={"service":["database"]}'),
    ("GET", "/configs"),
    ("GET", '/configs?filters={"label":["x"]}'),
    ("GET", "/events"),
    ("GET", '/events?filters={"type":["container"]}'),
    ("GET", "/swarm"),
    ("GET", "/swarm/unlockkey"),
    ("POST", "/swarm/update?version=1&rotateManagerToken=true"),
    ("POST", "/swarm/leave?force=true"),
    ("GET", "/info"),
    ("GET", "/system/df"),
    ("GET", "/volumes"),
    ("POST", "/networks/create"),
    ("POST", "/plugins/pull"),
    ("POST", "/session"),
    ("POST", "/grpc"),
    ("PUT", "/version"),
    ("OPTIONS", "/version"),
    ("TRACE", "/version"),
    ("CONNECT", "docker:80"),
]


@pytest.mark.parametrize(("method", "target"), FORBIDDEN)
def test_what_scaling_does_not_need_is_refused(scene: Scene, method: str, target: str) -> None:
    """Also under the API's version; with 403 and a sentence."""
    for prefix in ("", "/v1.41") if target.startswith("/") else ("",):
        status, said = scene.ask(method, prefix + target)
        assert status == 403
        assert len(json.loads(said)["message"].split()) > 3
    assert scene.swarm.writes == []


TRICKS = [
    "//version",
    "/./version",
    "/../version",
    "/v1.41/../version",
    "/v1.41/v1.41/version",
    "/v1.41//version",
    "/v1.41/version/",
    "/services/../containers/json",
    "/services/%2e%2e/containers/json",
    f"/services/{SERVICE}/../database",
    f"/services/{SERVICE}%2fupdate",
    f"/services/{SERVICE};/x",
    "/services/%67rapevine_peer",
    "/Version",
    "/version#x",
    "/version?x=1",
    "/version?",
    "http://docker/version",
    "http:/version",
    "*",
    "/v1/version",
    "/v2.0/version",
    "/vv1.41/version",
    "/v1.41\\version",
    "/version\u00a0",
    f"/services/{'a' * 200}",
    '/configs?filters={"label":["grapevine.service=grapevine_peer"]}&filters={"id":["x"]}',
    '/configs?filters={"label":["grapevine.service=grapevine_peer"],"id":["x"]}',
]


@pytest.mark.parametrize("target", TRICKS)
def test_a_path_is_read_in_one_spelling(scene: Scene, target: str) -> None:
    """What another parser might read as something that passes is refused, and never made right.
    (`/version?` is what some clients send for no query at all.)"""
    status, said = scene.ask("GET", target)
    if target == "/version?":
        assert status == 200
        return
    assert status in (400, 403)
    assert json.loads(said)["message"]


def _image(spec: Json) -> None:
    spec["TaskTemplate"]["ContainerSpec"]["Image"] = "evil:1"


def _mounts(spec: Json) -> None:
    spec["TaskTemplate"]["ContainerSpec"]["Mounts"] = [
        {"Type": "bind", "Source": "/", "Target": "/host"}
    ]


def _command(spec: Json) -> None:
    spec["TaskTemplate"]["ContainerSpec"]["Command"] = ["sh"]


def _environment(spec: Json) -> None:
    spec["TaskTemplate"]["ContainerSpec"]["Env"] = ["LD_PRELOAD=/x.so"]


def _privileges(spec: Json) -> None:
    spec["TaskTemplate"]["ContainerSpec"]["CapabilityAdd"] = ["ALL"]


def _secrets(spec: Json) -> None:
    spec["TaskTemplate"]["ContainerSpec"]["Secrets"] = [{"SecretName": "key"}]


def _placement(spec: Json) -> None:
    spec["TaskTemplate"]["Placement"]["Constraints"] = []


def _restart(spec: Json) -> None:
    spec["TaskTemplate"]["ForceUpdate"] = 1


def _ports(spec: Json) -> None:
    spec["EndpointSpec"] = {"Ports": [{"TargetPort": 22, "PublishedPort": 22}]}


def _name(spec: Json) -> None:
    spec["Name"] = "database"


def _label(spec: Json) -> None:
    spec["Labels"]["com.docker.stack.namespace"] = "other"


def _no_label(spec: Json) -> None:
    del spec["Labels"]["com.docker.stack.namespace"]


def _mode(spec: Json) -> None:
    spec["Mode"] = {"Global": {}}


def _both_modes(spec: Json) -> None:
    spec["Mode"]["Global"] = {}


def _too_many(spec: Json) -> None:
    spec["Mode"]["Replicated"]["Replicas"] = 101


def _negative(spec: Json) -> None:
    spec["Mode"]["Replicated"]["Replicas"] = -1


def _no_number(spec: Json) -> None:
    spec["Mode"]["Replicated"]["Replicas"] = True


def _other_case(spec: Json) -> None:
    """Go takes keys in any case, and the last one of two."""
    spec["tasktemplate"] = {"ContainerSpec": {"Image": "evil:1"}}


def _no_labels(spec: Json) -> None:
    spec["Labels"] = None


def _long_label(spec: Json) -> None:
    spec["Labels"]["grapevine.reason"] = "x" * 601


CHANGES = [
    _image, _mounts, _command, _environment, _privileges, _secrets, _placement, _restart, _ports,
    _name, _label, _no_label, _mode, _both_modes, _too_many, _negative, _no_number, _other_case,
    _no_labels, _long_label,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_service_keeps_all_but_its_number(scene: Scene, change: Callable[[Json], None]) -> None:
    """An update that changes anything else reaches nobody."""
    found = scene.service
    spec = copy.deepcopy(found["Spec"])
    spec["Mode"]["Replicated"]["Replicas"] = 3
    change(spec)
    target = f"/v1.41/services/{found['ID']}/update?version={found['Version']['Index']}"
    status, said = scene.ask("POST", target, spec)
    assert status == 403
    assert json.loads(said)["message"]
    assert scene.swarm.writes == []


def test_what_is_written_is_the_gates_own(scene: Scene) -> None:
    """A key that comes twice is one for our parser and another for the engine's; the engine is
    sent neither, but the spec that it has, with the number laid over it."""
    found = scene.service
    spec = copy.deepcopy(found["Spec"])
    spec["Mode"]["Replicated"]["Replicas"] = 3
    evil = {**copy.deepcopy(spec["TaskTemplate"]), "ContainerSpec": {"Image": "evil:1"}}
    text = '{"TaskTemplate":' + json.dumps(evil) + "," + json.dumps(spec)[1:]
    target = f"/v1.41/services/{found['ID']}/update?version={found['Version']['Index']}"
    raw = f"POST {target} HTTP/1.1\r\nHost: d\r\nX-Registry-Auth: e30=\r\n"
    status, _ = scene.send(f"{raw}Content-Length: {len(text)}\r\n\r\n{text}".encode())
    assert status == 200
    ((_, written),) = scene.swarm.writes
    assert written == spec
    assert "evil" not in json.dumps(scene.service)


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?version=",
        "?version=x",
        "?version={}&rollback=previous",
        "?rollback=previous&version={}",
        "?version={}&registryAuthFrom=previous-spec",
        "?version={}&version={}",
        "?version={}%26rollback=previous",
        "?version={};rollback=previous",
        "?version=%31",
    ],
)
def test_an_update_has_a_version_and_nothing_else(scene: Scene, query: str) -> None:
    """`rollback` would bring a former image back without a word about it in the body."""
    found = scene.service
    index = str(found["Version"]["Index"])
    spec = copy.deepcopy(found["Spec"])
    spec["Mode"]["Replicated"]["Replicas"] = 3
    target = f"/v1.41/services/{found['ID']}/update" + query.replace("{}", index)
    status, _ = scene.ask("POST", target, spec)
    assert status in (403, 500)  # 500: of another version than the present one
    assert scene.swarm.writes == []


def test_another_service_is_not_scaled(scene: Scene) -> None:
    """Neither by its id nor by its name."""
    found = scene.swarm.service("database")
    spec = copy.deepcopy(found["Spec"])
    spec["Mode"]["Replicated"]["Replicas"] = 0
    for name in (found["ID"], "database"):
        target = f"/v1.41/services/{name}/update?version={found['Version']['Index']}"
        assert scene.ask("POST", target, spec)[0] == 403
    assert scene.swarm.writes == []


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("node-2", {"Role": "manager"}),
        ("node-2", {"Availability": "pause"}),
        ("node-2", {"Name": "other"}),
        ("node-2", {"Labels": {}}),
        ("node-2", {"Labels": {"grapevine.pool": "other"}}),
        ("node-2", {"Labels": {"grapevine.pool": "grapevine", "owner": "me"}}),
        ("stranger", {"Availability": "drain"}),
        ("stranger", {"Labels": {"owner": "somebody", "grapevine.pool": "grapevine"}}),
        ("boss", {"Availability": "drain"}),
        ("boss", {"Role": "worker"}),
        ("boss", {"Labels": {"grapevine.pool": "grapevine"}}),
    ],
)
def test_nodes_keep_all_but_our_label(scene: Scene, name: str, change: Json) -> None:
    """Nobody becomes a manager, and nobody else's node, and no manager, is touched."""
    found = scene.node(name)
    target = f"/v1.41/nodes/{found['ID']}/update?version={found['Version']['Index']}"
    status, said = scene.ask("POST", target, {**found["Spec"], **change})
    assert status == 403
    assert json.loads(said)["message"]
    assert scene.swarm.writes == []


def test_only_an_emptied_node_is_removed(scene: Scene) -> None:
    """And never by force, and never a manager or a stranger's."""
    for name in ("boss", "node-2", "stranger"):
        assert scene.ask("DELETE", f"/v1.41/nodes/{scene.node(name)['ID']}")[0] == 403
    scene.swarm.label(
        "node-2", **{scene.config.label: scene.config.pool + nodes.LEAVING}
    )  # fmt: skip
    ours = scene.node("node-2")["ID"]
    assert scene.ask("DELETE", f"/v1.41/nodes/{ours}?force=true")[0] == 403
    assert scene.ask("DELETE", "/v1.41/nodes/node-2")[0] == 403
    assert scene.swarm.writes == []
    assert scene.ask("DELETE", f"/v1.41/nodes/{ours}")[0] == 400  # Swarm's own: it is not down
    assert [path for path, _ in scene.swarm.writes] == [f"/nodes/{ours}"]


@pytest.mark.parametrize(
    "body",
    [
        {"Name": "database-settings", "Data": "", "Labels": {}},
        {"Name": f"{SERVICE}-lease", "Data": "ZXZpbA==", "Labels": {}},
        {"Name": f"{SERVICE}-intent-", "Data": "", "Labels": {}},
        {"Name": f"{SERVICE}-intent-../x", "Data": "", "Labels": {}},
        {"Name": f"{SERVICE}-lease", "Data": "", "Labels": {}, "Templating": {"Name": "golang"}},
        {"Name": f"{SERVICE}-lease"},
        {"Name": [f"{SERVICE}-lease"], "Labels": {}},
        [],
        "text",
        None,
    ],
)
def test_no_config_but_our_own_is_made(scene: Scene, body: Any) -> None:
    """A config with content of a stranger's choice could become some container's settings."""
    raw = json.dumps(body)
    status, said = scene.send(
        "POST /v1.41/configs/create HTTP/1.1\r\nHost: d\r\n"
        f"Content-Length: {len(raw)}\r\n\r\n{raw}".encode()
    )
    assert status == 403
    assert json.loads(said)["message"]
    assert scene.swarm.writes == []


GOOD = b"GET /version HTTP/1.1\r\nHost: d\r\n\r\n"
EXEC = b"POST /v1.41/containers/x/exec HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize(
    "raw",
    [
        # Two lengths, and a length beside chunks: where a request ends must not be a matter of
        # opinion.
        b"POST /v1.41/configs/create HTTP/1.1\r\nHost: d\r\nContent-Length: 2\r\n"
        b"Content-Length: 60\r\n\r\n{}" + EXEC,
        b"POST /v1.41/configs/create HTTP/1.1\r\nHost: d\r\nContent-Length: 2\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + EXEC,
        b"POST /v1.41/configs/create HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: xchunked\r\n\r\n"
        b"0\r\n\r\n" + EXEC,
        b"POST /v1.41/configs/create HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"2\nXX\r\n0\r\n\r\n" + EXEC,
        b"GET /version HTTP/1.1\r\nHost: d\r\nContent-Length: 200\r\n\r\n" + EXEC,
        b"GET /version HTTP/1.1\r\nHost: d\r\nContent-Length: -1\r\n\r\n",
        b"GET /version\r\n HTTP/1.1\r\nHost: d\r\n\r\n",
        b"GET /version HTTP/1.1\r\nHost : d\r\n\r\n",
        b"GET /version HTTP/1.1\r\nHost: d\r\nX: " + b"y" * 40_000 + b"\r\n\r\n",
        b"GET /version HTTP/9.9\r\nHost: d\r\n\r\n",
        b"GET /version\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /version HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n" + EXEC,
        b"POST /session HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        b"POST /v1.41/configs/create HTTP/1.1\r\nHost: d\r\nExpect: 100-continue\r\n"
        b"Content-Length: 2\r\n\r\n{}",
        b"POST /v1.41/configs/create HTTP/1.1\r\nHost: d\r\nContent-Length: 9999999\r\n\r\n"
        + b"x" * (BODY_BYTES_MAX + 1),
        b"POST /v1.41/configs/create HTTP/1.1\r\nHost: d\r\nContent-Length: 200000\r\n\r\n"
        + b"[" * 200_000,
    ],
)
def test_broken_http_ends_the_connection(scene: Scene, raw: bytes) -> None:
    """It is refused, or not answered at all; nothing of it reaches the engine, and others are
    served as before."""
    status, _ = scene.send(raw)
    assert status == 0 or status in range(400, 506)
    assert scene.swarm.writes == []
    assert scene.send(GOOD)[0] == 200


def test_a_second_request_is_judged_like_the_first(scene: Scene) -> None:
    """What is sent in one go with a good request is a request of its own."""
    _, said = scene.send(GOOD + EXEC)
    assert "HTTP/1.1 403" in said
    assert scene.swarm.writes == []


def test_what_is_cut_short_is_not_done(scene: Scene) -> None:
    """A body that breaks off is no body."""
    body = json.dumps({"Name": f"{SERVICE}-lease", "Data": "", "Labels": {}})
    head = f"POST /v1.41/configs/create HTTP/1.1\r\nHost: d\r\nContent-Length: {len(body)}\r\n\r\n"
    scene.send((head + body[:-1]).encode())
    assert scene.swarm.writes == []
