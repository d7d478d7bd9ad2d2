"""stack.yml and compose.yml, held to the product: what they say is what peers and scaling expect.

That Docker takes them is shown on a real Swarm (tests/swarm); here, that they mean what they ought
to.
"""

from __future__ import annotations

import re
import stat
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from gossip.keys import parse_material
from peer import config
from peer.config import Config
from scaling.swarm import service
from scaling.swarm.proxy import command

DEPLOY = Path(__file__).parents[3] / "deploy"
PEERS = {"stack.yml": ("peer", "seed"), "compose.yml": ("peer",)}
EVERY_PEER = [(file, name) for file, names in PEERS.items() for name in names]
STACK = "grapevine"

TEMPLATES = {
    "{{.Task.Name}}": "grapevine_peer.12.k5x0p4b9vyfk7ea2m1q8szd3w",
    "{{.Task.ID}}": "k5x0p4b9vyfk7ea2m1q8szd3w",
    "{{.Node.Hostname}}": "node-1",
}
"""What Swarm puts there; names are at their longest."""

DURATION = re.compile(r"([0-9]+)s")

Json = dict[str, Any]


def read(name: str) -> Json:
    """A file as Docker reads it, with no variable of ours set."""
    text = (DEPLOY / name).read_text()
    filled = re.sub(r"\$\{[A-Z_]+:-([^}]*)\}", r"\1", text)
    assert "${" not in filled, "every variable has a default"
    found: Json = yaml.safe_load(filled)
    return found


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of them, as the README has it made."""
    directory = tmp_path_factory.mktemp("deploy") / "secrets"
    subprocess.run([DEPLOY / "make-secrets", directory], check=True, capture_output=True)
    return directory


def mounted(document: Json, name: str, secrets: Path) -> dict[str, Path]:
    """The files that a service finds, by where it finds them."""
    found = {}
    for one in document["services"][name].get("secrets", ()):
        source = one if isinstance(one, str) else one["source"]
        target = source if isinstance(one, str) else one.get("target", source)
        place = target if target.startswith("/") else f"/run/secrets/{target}"
        file = Path(document["secrets"][source]["file"])
        found[place] = secrets / file.relative_to("secrets")
    return found


def environment(document: Json, name: str, secrets: Path) -> dict[str, str]:
    """A service's variables, with the secrets' files where they lie here."""
    files = {place: str(file) for place, file in mounted(document, name, secrets).items()}
    found = {}
    for variable, value in document["services"][name].get("environment", {}).items():
        assert isinstance(value, str), f"{variable} is a text, whatever YAML thinks of it"
        text = value
        for template, sample in TEMPLATES.items():
            text = text.replace(template, sample)
        assert "{{" not in text
        if variable.endswith("_FILE"):
            assert text in files, f"{name}: {variable} names a file that is not mounted: {text}"
        found[variable] = files.get(text, text)
    return found


def settings(file: str, name: str, secrets: Path, tmp_path: Path) -> Config:
    """What the peer makes of them."""
    given = environment(read(file), name, secrets) | {
        "GRAPEVINE_PEER_DATA_DIR": str(tmp_path),
        "HOME": str(tmp_path),
    }
    return config.load(environment=given)


@pytest.mark.parametrize(("file", "name"), EVERY_PEER)
def test_every_variable_is_a_setting(file: str, name: str, secrets: Path, tmp_path: Path) -> None:
    """A peer would not start with one that is unknown or wrong, nor without a file that it names;
    what it reads leads to the services of the same file."""
    found = settings(file, name, secrets, tmp_path)
    services = read(file)["services"]
    assert found.ledger.url is not None
    assert re.search(r"@(\w+)/", found.ledger.url)[1] in services  # type: ignore[index]
    assert [endpoint.host for endpoint in found.queue.broker.endpoints] == ["rabbitmq"]
    assert found.store.s3.endpoint == "http://store:9000"
    assert found.gossip.key is not None
    assert len(parse_material(found.gossip.key)) == 32
    for seed in found.gossip.join:
        assert seed.removeprefix("tasks.") in services


def test_services_and_peers_have_the_same_passwords(secrets: Path) -> None:
    """In each of the forms in which somebody wants them."""
    said = {file.name: file.read_text().strip() for file in secrets.iterdir()}
    assert said["postgres_password"] in said["ledger_url"]
    assert said["rabbitmq_password"] in said["queue_url"]
    assert f"default_pass = {said['rabbitmq_password']}" in said["rabbitmq.conf"]
    assert len({*said.values()}) == len(said)


def test_secrets_are_made_once(secrets: Path) -> None:
    """The directory is closed; a second run changes nothing; a missing one is added."""
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    before = {file.name: file.read_text() for file in secrets.iterdir()}
    (secrets / "store_user").unlink()
    subprocess.run([DEPLOY / "make-secrets", secrets], check=True, capture_output=True)
    assert {file.name: file.read_text() for file in secrets.iterdir()} == before


@pytest.mark.parametrize("file", PEERS)
def test_every_secret_is_used_and_every_variable_of_a_file_mounted(
    file: str, secrets: Path
) -> None:
    """Nothing is made, mounted or named for nothing."""
    document = read(file)
    used = set()
    for name in document["services"]:
        environment(document, name, secrets)
        used |= set(mounted(document, name, secrets).values())
    assert used == {secrets / Path(one["file"]).name for one in document["secrets"].values()}
    assert all(path.is_file() for path in used)


def seconds(text: str) -> float:
    """A duration as these files write them."""
    found = DURATION.fullmatch(text)
    assert found is not None, f"{text} is not in seconds"
    return float(found[1])


@pytest.mark.parametrize(("file", "name"), EVERY_PEER)
def test_docker_waits_longer_than_the_peer(
    file: str, name: str, secrets: Path, tmp_path: Path
) -> None:
    """Or it would kill a peer that is about to hand its work back: 15 s, as peer.stop_grace_s has
    it."""
    found = settings(file, name, secrets, tmp_path)
    grace_s = seconds(read(file)["services"][name]["stop_grace_period"])
    assert grace_s >= found.peer.stop_grace_s + 15


def swarm_spec(found: Json) -> Json:
    """A service of the stack as Swarm stores it, as far as scaling reads it."""
    deploy = found["deploy"]
    return {
        "Mode": {"Replicated": {"Replicas": int(deploy["replicas"])}},
        "TaskTemplate": {
            "ContainerSpec": {
                "StopGracePeriod": int(seconds(found["stop_grace_period"]) * service.NANO)
            },
            "RestartPolicy": {"Condition": deploy["restart_policy"]["condition"]},
            "Placement": {
                "Constraints": deploy["placement"]["constraints"],
                "MaxReplicas": deploy["placement"]["max_replicas_per_node"],
            },
        },
    }


def test_the_leader_can_scale_the_peers(secrets: Path, tmp_path: Path) -> None:
    """The service is called as the seeds call it, bound to the label that they change, and is what
    `peerctl doctor` has nothing to say about; work is never killed by scaling down."""
    document = read("stack.yml")
    seed = settings("stack.yml", "seed", secrets, tmp_path)
    swarm, peer = seed.scaling.swarm_config, document["services"]["peer"]
    assert seed.scaling.orchestrator == "swarm"
    assert swarm.service == f"{STACK}_peer"
    spec = swarm_spec(peer)
    assert service.fault(spec, swarm) == ""
    assert service.warnings(spec, swarm) == ()
    assert service.per_node_max(spec) == seed.scaling.containers_per_node
    assert "max_attempts" not in peer["deploy"]["restart_policy"]
    assert seed.scaling.containers_min <= int(peer["deploy"]["replicas"])
    assert peer["deploy"]["update_config"]["order"] == "stop-first"


def test_only_seeds_lead_and_only_peers_work(secrets: Path, tmp_path: Path) -> None:
    """A manager has better things to do than to encode, and a worker no way to Docker."""
    seed = settings("stack.yml", "seed", secrets, tmp_path)
    peer = settings("stack.yml", "peer", secrets, tmp_path)
    assert (seed.peer.slots, seed.membership.eligible) == (0, True)
    assert (peer.peer.slots, peer.membership.eligible) == (1, False)
    assert peer.scaling.orchestrator == "none"
    assert peer.peer.container == TEMPLATES["{{.Task.ID}}"]
    assert peer.peer.node == seed.peer.node == TEMPLATES["{{.Node.Hostname}}"]


def test_the_gate_is_for_that_service_alone(secrets: Path, tmp_path: Path) -> None:
    """It listens where seeds ask, and lets them do what their settings want."""
    seed = settings("stack.yml", "seed", secrets, tmp_path).scaling
    gate = read("stack.yml")["services"]["gate"]
    assert gate["entrypoint"] == ["docker-gate"]
    told = command.main.make_context("docker-gate", list(gate["command"])).params
    assert seed.swarm.managers == (f"unix://{told['listen']}",)
    assert told["service"] == seed.swarm.service
    assert (told["pool"], told["label"]) == (seed.pool, seed.swarm.label)
    assert told["containers_max"] == seed.containers_max
    assert not told["joins"]


def volumes(found: Json) -> Iterator[Json]:
    yield from found.get("volumes", ())


def test_dockers_socket_is_the_gates_alone() -> None:
    """And the gate's is the seeds'; neither of the two runs anywhere but on managers."""
    services = read("stack.yml")["services"]
    has = {
        name: {volume.get("source") for volume in volumes(found)}
        for name, found in services.items()
    }
    assert [name for name, sources in has.items() if "/var/run/docker.sock" in sources] == ["gate"]
    assert {name for name, sources in has.items() if "gate" in sources} == {"gate", "seed"}
    for name in ("gate", "seed"):
        assert services[name]["deploy"]["placement"]["constraints"] == ["node.role==manager"]
        assert services[name]["deploy"]["mode"] == "global"
    assert services["gate"]["networks"] == ["nobody"]
    assert [name for name, one in services.items() if "nobody" in one["networks"]] == ["gate"]
    assert not any(volume["type"] == "bind" for volume in volumes(services["seed"]))


@pytest.mark.parametrize("file", PEERS)
def test_containers_are_confined(file: str) -> None:
    """Ours can write to their own volume and memory only, and hold no capability; nobody publishes
    a port; all have a health check (ours in the image), limits and logs that end."""
    document = read(file)
    ours = (*PEERS[file], "gate") if file == "stack.yml" else PEERS[file]
    for name, found in document["services"].items():
        assert not {"ports", "privileged", "cap_add", "devices", "pid", "ipc"} & found.keys()
        assert found["logging"]["options"].keys() == {"max-size", "max-file"}
        if name in ours:
            assert found["read_only"] is True
            assert found["cap_drop"] == ["ALL"]
        if name not in PEERS[file]:
            assert found["healthcheck"]["test"][0] == "CMD"
            assert "stop_grace_period" in found or name == "gate"
        if file == "stack.yml":
            assert "memory" in found["deploy"]["resources"]["limits"]
            assert "memory" in found["deploy"]["resources"]["reservations"]
            assert found["deploy"]["endpoint_mode"] == "dnsrr"
            assert found["deploy"]["restart_policy"]["condition"] == "any"
            assert {"update_config", "rollback_config"} <= found["deploy"].keys()
    assert all(network.get("internal") is True for network in document["networks"].values())


@pytest.mark.parametrize("file", PEERS)
def test_images_are_pinned_and_come_from_nowhere_in_particular(file: str) -> None:
    """A version each, no host; and both files have the same."""
    images = {name: one["image"] for name, one in read(file)["services"].items()}
    for image in images.values():
        name, _, tag = image.partition(":")
        assert tag
        assert tag != "latest"
        assert "." not in name.split("/")[0]
    known = {name: one["image"] for name, one in read("stack.yml")["services"].items()}
    assert {name: known[name] for name in images} == images


def test_the_version_is_the_products() -> None:
    """The image that is deployed by default is the one that this tree's Dockerfile would make."""
    text = (DEPLOY.parent / "pyproject.toml").read_text()
    version = re.search(r'^version = "([^"]+)"', text, re.MULTILINE)
    assert version is not None
    assert read("stack.yml")["services"]["peer"]["image"] == f"grapevine:{version[1]}"
    assert f"grapevine:{version[1]}" in (DEPLOY / "Dockerfile").read_text()


def test_one_machine_has_the_same_services() -> None:
    """compose.yml differs where one machine does, and nowhere else."""
    stack, compose = read("stack.yml")["services"], read("compose.yml")["services"]
    for name in ("postgres", "rabbitmq", "store"):
        for key in ("command", "environment", "healthcheck", "volumes", "stop_grace_period"):
            assert stack[name].get(key) == compose[name].get(key), (name, key)
    ours: Mapping[str, str] = compose["peer"]["environment"]
    theirs: Mapping[str, str] = stack["peer"]["environment"]
    same = ours.keys() & theirs.keys() - {"GRAPEVINE_GOSSIP_JOIN"}
    assert {key: ours[key] for key in same} == {key: theirs[key] for key in same}


def test_encryption_is_an_addition_to_the_same_network() -> None:
    """The second file says nothing that the first one says otherwise."""
    added = read("stack.encrypted.yml")["networks"]
    known = read("stack.yml")["networks"]
    assert added.keys() <= known.keys()
    assert "inside" in added
    assert added["inside"]["driver"] == known["inside"]["driver"]


def test_prometheus_is_told_of_every_peer() -> None:
    """All that are members, the seeds too, where the settings that people copy look for them:
    whoever leads is a seed, and nobody else tells scaling's numbers."""
    readme = (DEPLOY / "grafana/README.md").read_text()
    (block,) = re.findall(r"^```yaml\n(rule_files:.*?)^```", readme, re.MULTILINE | re.DOTALL)
    (job,) = yaml.safe_load(block)["scrape_configs"]
    (found,) = job["dns_sd_configs"]
    assert set(found["names"]) == {f"tasks.{name}" for name in PEERS["stack.yml"]}
    for name in PEERS["stack.yml"]:
        variables = read("stack.yml")["services"][name]["environment"]
        assert variables["GRAPEVINE_PEER_METRICS_LISTEN"] == f"0.0.0.0:{found['port']}"
