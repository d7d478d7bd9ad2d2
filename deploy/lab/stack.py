"""The product's own stack on a lab: deployed by Docker's own command, looked at, broken, removed.

stack.yml is taken as it is. What differs from a user's cluster is told to it from outside, as a
user would: the names of images, and a second file (published.yml) that lets this machine reach the
data. To create the services through the engine's API, as the lab does everything else, would prove
nothing about the file that users deploy; so this, alone in the lab, needs the program `docker`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from deploy.lab import containers
from deploy.lab.cluster import Lab, Say, keep_quiet
from deploy.lab.containers import STACK_LABEL, Container, Log
from deploy.lab.engine import Done, Engine, EngineError
from deploy.lab.errors import LabError
from deploy.lab.images import base, peer, services
from deploy.lab.images.cache import Cache
from deploy.lab.shell import run

NAME = "grapevine"
DEPLOY = Path(__file__).resolve().parents[1]
FILES = (DEPLOY / "stack.yml", Path(__file__).with_name("published.yml"))
BUCKET = "grapevine"
PEERS = ("peer", "seed")
LABELS = ("grapevine.pool", "grapevine.data")

WELL_S = 240.0
"""A broker alone takes half a minute, on a machine that has nothing else to do."""

READY = "import urllib.request as u; u.urlopen('http://127.0.0.1:9464/readyz', timeout=8)"
"""Ends well where a peer takes work: the image has no other client for HTTP."""

COMMAND_S = 120.0
REMOVE_S = 120.0
EXECUTE_S = 120.0
PAUSE_S = 0.2
CONFLICT = 409


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """How this machine reaches the S3 store."""

    endpoint: str
    bucket: str
    access_key: str
    secret_key: str


def check_docker() -> None:
    """Raise `LabError` where Docker's own command is missing; only the stack needs it."""
    if shutil.which("docker") is None:
        raise LabError("Not installed: docker. On Debian: apt-get install -y docker.io")


class Stack:
    """The stack on a lab that is up; there is one at most, called grapevine.

    All nodes may have peers; the first one has the data.

    Args:
        lab: The lab.
        say: Is told what goes on.
    """

    def __init__(self, lab: Lab, say: Say = keep_quiet) -> None:
        self.lab = lab
        self._say = say
        self._data = lab.plan.members[0]
        self._secrets = lab.plan.directory / "secrets"

    def load(self, cache: Cache) -> None:
        """Make all images, and put them where the stack runs them."""
        self.lab.load(peer.write(cache, self.lab.engine_to_build_with()))
        self.load_services(cache)

    def load_services(self, cache: Cache) -> None:
        """Those of the data only."""
        self.lab.load(services.write(cache), [self._data.name])

    def deploy(
        self,
        *,
        peers: int = 2,
        image: str | None = None,
        environment: Mapping[str, str] = {},
        settings: Mapping[str, str] = {},
        files: Sequence[Path] = (),
    ) -> None:
        """Deploy it, or deploy it anew with other settings; the images are on the nodes already.

        Args:
            peers: How many to begin with; the leader changes that.
            image: Of the peers, the seed and the gate; this tree's by default.
            environment: More variables for stack.yml, by their names there.
            settings: More variables for each peer and seed: `GRAPEVINE_SCALING_WAIT_S`.
            files: More stack files, whose words count above it.

        Raises:
            LabError: Docker does not take it, or the program `docker` is missing.
        """
        check_docker()
        run(str(DEPLOY / "make-secrets"), str(self._secrets))
        for node in self.lab.plan.members:
            labels = {"grapevine.pool": "worker"}
            if node is self._data:
                labels["grapevine.data"] = "true"
            self._label(node.name, labels)
        more = {"environment": dict(settings)}
        added = self.lab.plan.directory / "settings.json"  # which is YAML, too
        added.write_text(json.dumps({"version": "3.8", "services": dict.fromkeys(PEERS, more)}))
        self._say(f"Deploying stack.yml with {peers} {'peer' if peers == 1 else 'peers'}")
        self._docker(
            "stack", "deploy", "--resolve-image", "never",
            *(f"--compose-file={path}" for path in (*FILES, added, *files)), NAME,
            environment={
                "GRAPEVINE_IMAGE": image or peer.TAG,
                "GRAPEVINE_POSTGRES_IMAGE": services.POSTGRES,
                "GRAPEVINE_RABBITMQ_IMAGE": services.RABBITMQ,
                "GRAPEVINE_STORE_IMAGE": services.STORE,
                "GRAPEVINE_SECRETS": str(self._secrets),
                "GRAPEVINE_PEERS": str(peers),
                **environment,
            },
        )  # fmt: skip

    def wait_until_well(self, within_s: float = WELL_S) -> None:
        """Wait until every service has as many containers as it wants, all of them healthy, and a
        peer takes work: a healthy one may still wait for its ledger, its queue or its store.

        Raises:
            LabError: Who is missing, and what Docker says about it.
        """
        deadline = time.monotonic() + within_s
        while missing := self.find_missing() or self._find_unready():
            if time.monotonic() > deadline:
                told = self._docker("stack", "ps", "--no-trunc", NAME)
                raise LabError(f"Not well within {within_s:.0f} s: {', '.join(missing)}.\n{told}")
            time.sleep(PAUSE_S)

    def find_missing(self) -> list[str]:
        """Name the services that have not all of their containers well, and why; none if all have.

        Containers of a node that is cut off count: they run. No manager that could be asked is
        something missing, too.
        """
        try:
            known = self.services()
        except LabError as error:
            return [str(error)]
        running = self.containers()
        missing = []
        for name, service in sorted(known.items()):
            wanted = service["ServiceStatus"]["DesiredTasks"]
            well = sum(one.service == name and one.healthy for one in running)
            change = service.get("UpdateStatus", {}).get("State", "completed")
            if well < max(wanted, 1):
                missing.append(f"{name} has {well} of {wanted}")
            elif not change.endswith("completed"):
                missing.append(f"{name} is {change}")
        return missing or ([] if known else [f"there is no service of {NAME}"])

    def _find_unready(self) -> list[str]:
        """Say that no peer takes work; nothing if one does."""
        for one in self.containers():
            with suppress(LabError):  # it has just gone
                if (
                    one.service == "peer"
                    and not self.execute(one, "python3", "-c", READY).exit_code
                ):
                    return []
        return ["no peer is ready to work"]

    def services(self) -> dict[str, dict[str, Any]]:
        """The services by their names in the stack file, as a manager lists them."""
        found = self.lab.manager().get(
            "/services", filters={"label": [f"{STACK_LABEL}={NAME}"]}, status=True
        )
        return {one["Spec"]["Name"].removeprefix(f"{NAME}_"): one for one in found}

    def containers(self) -> list[Container]:
        """The containers that run, by name, also those on nodes that are cut off."""
        return containers.find_all(self.lab.plan, NAME)

    def find(self, name: str) -> Container:
        """Find one by its short name, `peer.3`, or by its service's where that has one only.

        Raises:
            LabError: There is none, or there are several; with those that there are.
        """
        running = self.containers()
        matching = [one for one in running if name in {one.name, one.service}]
        if len(matching) == 1:
            return matching[0]
        if matching:
            raise LabError(f"Say which {name}: {', '.join(one.name for one in matching)}.")
        there = ", ".join(one.name for one in running) or "none"
        raise LabError(f"No container {name} runs; those that run: {there}.")

    def execute(self, container: Container, *argv: str, within_s: float = EXECUTE_S) -> Done:
        """Run a program in a container to its end; `within_s` is the longest silence."""
        node = self.lab.plan.node(container.node)
        return Engine(node.socket, timeout_s=within_s).execute(container.id, argv)

    def peerctl(self, *argv: str, within_s: float = EXECUTE_S) -> Done:
        """Run `peerctl` where a peer lives, a seed if there is one.

        Raises:
            LabError: No peer lives.
        """
        return self.execute(self._find_peer(), "peerctl", *argv, within_s=within_s)

    def submit(self, video: Path, *options: str, within_s: float = EXECUTE_S) -> Done:
        """Hand in a video of this machine, with options of `peerctl submit`.

        Raises:
            LabError: No peer lives, or the file cannot be read.
        """
        if not video.is_file():
            raise LabError(f"There is no file {video}.")
        peer = self._find_peer()
        engine = Engine(self.lab.plan.node(peer.node).socket, timeout_s=within_s)
        # The peer copies it into the store, and tasks are called as their files are.
        directory = f"{base.HOME}/{uuid4().hex}"
        self.execute(peer, "mkdir", directory)
        try:
            engine.put(peer.id, video, directory, video.name)
            return engine.execute(
                peer.id, ["peerctl", "submit", *options, "--", f"{directory}/{video.name}"]
            )
        finally:
            self.execute(peer, "rm", "-rf", directory)

    def table(self, container: Container) -> list[dict[str, Any]]:
        """Whom a peer knows; nobody while it does not answer."""
        with suppress(LabError, ValueError, KeyError):
            done = self.execute(container, "peerctl", "table", "--json")
            members: list[dict[str, Any]] = json.loads(done.output)["members"]
            return members
        return []

    def logs(self, name: str = "", *, lines: int | str = "all") -> list[Log]:
        """Read what a container has written, or a service's, or all; also those that have ended.

        Raises:
            LabError: There is none of that name.
        """
        if found := containers.read_logs(self.lab.plan, NAME, name, lines):
            return found
        there = ", ".join(one.name for one in self.containers()) or "none"
        raise LabError(f"There is no container {name}; those that run: {there}.")

    def freeze(self, container: Container) -> None:
        """Let all of its processes stand still."""
        containers.freeze(self.lab.plan, container)

    def thaw(self, container: Container) -> None:
        """Let them go on."""
        containers.thaw(self.lab.plan, container)

    def kill(self, container: Container, number: int = signal.SIGKILL) -> None:
        """Send its first process a signal."""
        containers.kill(container, number)

    @property
    def ledger_url(self) -> str:
        """Of the database, from this machine."""
        password = self._secret("postgres_password")
        return f"postgresql://grapevine:{password}@{self._data.address}:5432/grapevine"

    @property
    def queue_url(self) -> str:
        """Of the broker, from this machine."""
        return f"amqp://grapevine:{self._secret('rabbitmq_password')}@{self._data.address}:5672"

    @property
    def management_url(self) -> str:
        """Of the broker's management API, from this machine; user and password are the queue's."""
        return f"http://{self._data.address}:15672"

    @property
    def store(self) -> Store:
        """The S3 store, from this machine."""
        return Store(
            endpoint=f"http://{self._data.address}:9000",
            bucket=BUCKET,
            access_key=self._secret("store_user"),
            secret_key=self._secret("store_password"),
        )

    def remove(self) -> None:
        """Remove it with all of its data and secrets; wait until nothing of it is left.

        Nobody's work is waited for, since what it would be done for goes, too. Containers and
        volumes of nodes that are off stay there: switch them on before.

        Raises:
            LabError: What does not go.
        """
        manager = self.lab.manager()
        self._docker("stack", "rm", NAME)
        for container in self.containers():
            with suppress(LabError):
                self.kill(container)
        deadline = time.monotonic() + REMOVE_S
        while left := list(self._find_left(manager)):
            if time.monotonic() > deadline:
                raise LabError(f"Still there: {', '.join(left)}.")
            time.sleep(PAUSE_S)
        for node in self.lab.plan.members:
            self._label(node.name, {})
        shutil.rmtree(self._secrets, ignore_errors=True)

    def _find_peer(self) -> Container:
        """Find one that can be asked."""
        for one in sorted(self.containers(), key=lambda one: one.service != "seed"):
            if one.service in PEERS and one.healthy and not one.frozen:
                return one
        raise LabError("No peer lives that could be asked.")

    def _find_left(self, manager: Engine) -> Iterator[str]:
        """Remove the volumes that can go, and name what is still there."""
        filters = {"label": [f"{STACK_LABEL}={NAME}"]}
        for kind in ("services", "networks", "secrets"):
            if manager.get(f"/{kind}", filters=filters):
                yield kind
        for node in self.lab.plan.members:
            engine = Engine(node.socket)
            if not engine.answers():
                continue
            for one in engine.get("/containers/json", filters=filters, all=True):
                yield f"{one['Names'][0]} on {node.name}"
            for volume in engine.get("/volumes", filters=filters)["Volumes"] or ():
                try:
                    engine.delete(f"/volumes/{volume['Name']}")
                except EngineError as error:
                    if error.status != CONFLICT:
                        raise
                    yield f"volume {volume['Name']} on {node.name}"

    def _label(self, node: str, labels: Mapping[str, str]) -> None:
        """Give a node these labels of ours and no others of ours."""
        manager = self.lab.manager()
        found = next(
            one for one in manager.get("/nodes") if one["Description"].get("Hostname") == node
        )
        others = {k: v for k, v in (found["Spec"].get("Labels") or {}).items() if k not in LABELS}
        wanted = others | dict(labels)
        if wanted != (found["Spec"].get("Labels") or {}):
            spec = found["Spec"] | {"Labels": wanted}
            manager.post(f"/nodes/{found['ID']}/update", spec, version=found["Version"]["Index"])

    def _secret(self, name: str) -> str:
        try:
            return (self._secrets / name).read_text().strip()
        except FileNotFoundError:
            raise LabError("There is no stack on this lab.") from None

    def _docker(self, *argv: str, environment: Mapping[str, str] = {}) -> str:
        done = subprocess.run(
            ["docker", *argv],
            env={
                "PATH": os.environ.get("PATH", os.defpath),
                "HOME": str(self.lab.plan.directory),
                "DOCKER_HOST": f"unix://{self.lab.manager().path}",
                **environment,
            },
            cwd=DEPLOY, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=COMMAND_S, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise LabError(f"`docker {' '.join(argv)}` failed: {done.stderr.strip()}")
        return done.stdout
