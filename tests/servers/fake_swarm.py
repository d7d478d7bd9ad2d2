"""A Docker Swarm for tests: its API on UNIX sockets, its behaviour as measured, its time ours.

The driver under test talks to it through the docker SDK as it does to a real one; the same contract
suite runs over both. What it does, and that it was measured, is in `fake_swarm_engine`. A real
Swarm takes a minute to show what this shows in milliseconds, and cannot be told to fail just now.

Time stands still until somebody calls `advance`, or runs `speed` times as fast as the clock.
"""

from __future__ import annotations

import base64
import json
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.servers.fake_swarm_engine import FakeEngine, Hooks
from tests.servers.fake_swarm_http import Problem, Route, Server
from tests.servers.fake_swarm_records import Config, Container, Json, Node, Service, Task

FAILOVER_S = 14.1
"""From the death of the leading manager to the first write through another one."""
UNKNOWN_S = 5.0
"""After that, until the nodes are heard by the new leader."""
RECOVERY_S = 6.0
"""From the return of the majority to the first write."""
SAYS_LOST_S, SAYS_DEADLINE_S = 10.0, 20.0

OUT_OF_SEQUENCE = "rpc error: code = Unknown desc = update out of sequence"
NO_LEADER = (
    "rpc error: code = Unknown desc = The swarm does not have a leader. It's possible that too few "
    "managers are online. Make sure more than half of the managers are online."
)
LOST_LEADER = "raft: failed to process the request: node lost leader status"
DEADLINE = "rpc error: code = DeadlineExceeded desc = context deadline exceeded"
NOT_A_MANAGER = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect '
    "this node to swarm and try again."
)
STEP_S = 0.005


class FakeSwarm:
    """Nodes, managers and services, while its context lasts.

    Args:
        speed: Virtual seconds per second; None: only `advance` moves time.
        heartbeat_s: Of the agents; Swarm's default is 5 s.
    """

    def __init__(self, *, speed: float | None = None, heartbeat_s: float = 5.0) -> None:
        self._engine = FakeEngine(heartbeat_s=heartbeat_s)
        self._speed = speed
        self._lock = threading.RLock()
        self._began_s = time.monotonic()
        self._directory = Path(tempfile.mkdtemp(prefix="fake-swarm-"))
        self._servers: dict[str, Server] = {}
        self._configs: dict[str, Config] = {}
        self._closing = threading.Event()
        self._blocked_until_s = 0.0
        self._no_quorum_since_s: float | None = None
        self.worker_token = "SWMTKN-of-workers"
        """What lets a machine in as a worker; a person may rotate it."""
        self.work_s = 0.0
        """How long a container goes on after SIGTERM, if nobody says otherwise by `work`."""
        self.tell(Hooks())
        self.writes: list[tuple[str, Json]] = []
        """Paths and bodies of all that was written, also in vain, in their order."""

    def __enter__(self) -> FakeSwarm:
        return self

    def __exit__(
        self,
        type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._closing.set()
        for server in list(self._servers.values()):
            server.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    # Time

    @property
    def now_s(self) -> float:
        """Virtual seconds since it was made."""
        with self._at_present():
            return self._engine.now_s

    def advance(self, seconds: float) -> None:
        """Let time pass. Not for one that runs by the clock."""
        with self._lock:
            self._engine.advance(seconds)

    @contextmanager
    def _at_present(self) -> Iterator[FakeEngine]:
        with self._lock:
            if self._speed is not None:
                self._engine.run_until((time.monotonic() - self._began_s) * self._speed)
            yield self._engine

    def _wait_until(self, at_s: float) -> None:
        while self.now_s < at_s and not self._closing.is_set():
            time.sleep(STEP_S)

    # Machines

    def add_manager(self, name: str, **labels: str) -> str:
        """Let a manager join; the URL of its API."""
        self._add(name, "manager", labels)
        return self._serve(name)

    def add_worker(self, name: str, **labels: str) -> str:
        """Let a worker join; the URL of its API, which refuses everything."""
        self._add(name, "worker", labels)
        return self._serve(name)

    def _add(self, name: str, role: str, labels: dict[str, str]) -> None:
        with self._at_present() as engine:
            engine.add_node(name, role=role, **labels)

    def _serve(self, name: str) -> str:
        path = self._directory / f"{name}.sock"
        self._servers[name] = Server(path, self._routes(name), self._date, self._events)
        return f"unix://{path}"

    @property
    def managers(self) -> tuple[str, ...]:
        """The URLs of all managers that run, the leader's first."""
        with self._at_present() as engine:
            names = [node.name for node in engine.nodes.values() if node.manager and node.up]
        return tuple(
            f"unix://{self._servers[name].path}" for name in names if name in self._servers
        )

    def cut(self, name: str) -> None:
        """Cut a node's line; its containers go on."""
        with self._at_present() as engine:
            engine.cut(self._node(name))

    def kill(self, name: str) -> None:
        """Take a node's power away. The leader among the managers: others take over in 14 s."""
        with self._at_present() as engine:
            node = self._node(name)
            leads = node is self._leader()
            managers = [each for each in engine.nodes.values() if each.manager]
            engine.kill(node)
            alive = sum(each.up for each in managers)
        self._servers.pop(name).close()
        if not node.manager:
            return
        if 2 * alive <= len(managers):
            self._lose_quorum()
        elif leads:
            self._fail_over()

    def heal(self, name: str) -> None:
        """Give a node its line and its power back."""
        with self._at_present() as engine:
            node = self._node(name)
            engine.heal(node)
            managers = [each for each in engine.nodes.values() if each.manager]
            regained = 2 * sum(each.up for each in managers) > len(managers)
        if name not in self._servers:
            self._serve(name)
        if node.manager and regained and self._no_quorum_since_s is not None:
            self._fail_over(RECOVERY_S)

    def leave(self, name: str) -> None:
        """As `docker swarm leave` on a worker, and `docker node rm` on a manager then."""
        with self._at_present() as engine:
            node = self._node(name)
            engine.kill(node)
            engine.remove_node(node)
        self._servers.pop(name).close()

    def join(self, name: str, *, token: str, addresses: Sequence[str]) -> str:
        """As `docker swarm join` on a new machine; the URL of its API.

        Raises:
            ValueError: It is not let in.
        """
        with self._at_present() as engine:
            answering = {
                node.manager_address for node in engine.nodes.values() if node.manager and node.up
            }
        if token != self.worker_token or not answering & set(addresses):
            raise ValueError("no manager there lets anybody in with that token")
        return self.add_worker(name)

    def node(self, name: str) -> Json:
        """A node as the API shows it."""
        with self._at_present():
            return self._show(self._node(name))

    def _show(self, node: Node) -> Json:
        return node.show(leads=node is self._leader())

    def _leader(self) -> Node | None:
        """The manager that leads the others, or will when they have chosen."""
        managers = [node for node in self._engine.nodes.values() if node.manager and node.up]
        return next(iter(managers), None)

    def label(self, name: str, **labels: str | None) -> None:
        """As a person does by `docker node update`; None removes."""
        with self._at_present() as engine:
            node = self._node(name)
            spec = json.loads(json.dumps(node.spec))
            for key, value in labels.items():
                spec["Labels"].pop(key, None)
                if value is not None:
                    spec["Labels"][key] = value
            engine.update_node(node, spec)

    def set_availability(self, name: str, availability: str) -> None:
        """As a person does: `active`, `pause` or `drain`."""
        with self._at_present() as engine:
            node = self._node(name)
            engine.update_node(node, {**node.spec, "Availability": availability})

    def _node(self, name: str) -> Node:
        found = [node for node in self._engine.nodes.values() if node.name == name]
        return max(found, key=lambda node: node.created_s)

    # Managers

    def _fail_over(self, blocked_s: float = FAILOVER_S) -> None:
        with self._at_present() as engine:
            self._no_quorum_since_s = None
            engine.frozen = True
            self._blocked_until_s = engine.now_s + blocked_s
            engine.after(blocked_s, self._lead_anew)

    def _lead_anew(self) -> None:
        engine = self._engine
        engine.frozen = False
        for node in list(engine.nodes.values()):
            if node.state != "down":
                engine.set_node_state(node, "unknown")
        engine.after(UNKNOWN_S, self._hear_all)

    def _hear_all(self) -> None:
        engine = self._engine
        for node in list(engine.nodes.values()):
            if node.heard:
                engine.set_node_state(node, "ready")
            elif node.state == "unknown":
                # Six missed heartbeats, not three, for one that the new leader never heard.
                engine.after(6 * engine.heartbeat_s, partial(self._give_up, node))
        engine.thaw()

    def _give_up(self, node: Node) -> None:
        if not node.heard and node.id in self._engine.nodes:
            self._engine.set_node_state(node, "down")

    def _lose_quorum(self) -> None:
        with self._at_present() as engine:
            engine.frozen = True
            self._no_quorum_since_s = engine.now_s

    def _need_leader(self, *, writing: bool) -> None:
        """Wait or refuse as managers without a leader do; called without the lock."""
        since_s = self._no_quorum_since_s
        if since_s is not None:
            at_s = self.now_s
            says, after_s = (LOST_LEADER, SAYS_LOST_S) if writing else (DEADLINE, SAYS_DEADLINE_S)
            if at_s - since_s >= after_s:
                raise Problem(500, NO_LEADER)
            self._wait_until(at_s + after_s)
            raise Problem(500, says)
        if self.now_s < self._blocked_until_s:
            self._wait_until(self._blocked_until_s)

    # Services and their containers

    def create_service(self, name: str, replicas: int, **template: Any) -> None:
        """Deploy as `docker stack deploy` does: what is not given is not in the spec."""
        spec = {
            "Name": name,
            "Labels": {"com.docker.stack.namespace": "test"},
            "TaskTemplate": {"ContainerSpec": {"Image": "peer:1"}, **template},
            "Mode": {"Replicated": {"Replicas": replicas}},
        }
        with self._at_present() as engine:
            engine.create_service(spec)

    def service(self, name: str) -> Json:
        """A service as the API shows it."""
        with self._at_present():
            return self._service(name).show()

    def update_service(self, name: str, environment: Sequence[str], **config: Any) -> None:
        """As a person does by `docker service update`.

        Args:
            config: How: UpdateConfig's fields.
        """
        with self._at_present() as engine:
            spec = self._service(name).show()["Spec"]
            spec["TaskTemplate"]["ContainerSpec"]["Env"] = list(environment)
            engine.update_service(self._service(name), {**spec, "UpdateConfig": config})

    def scale(self, name: str, replicas: int) -> None:
        """As a person does by `docker service scale`."""
        with self._at_present() as engine:
            spec = self._service(name).show()["Spec"]
            spec["Mode"]["Replicated"]["Replicas"] = replicas
            engine.update_service(self._service(name), spec)

    def roll_back(self, name: str) -> None:
        """As a person does by `docker service rollback`."""
        with self._at_present() as engine:
            engine.roll_back(self._service(name))

    def config_labels(self, name: str) -> dict[str, str]:
        """What is written on a config now; nothing where there is none."""
        with self._at_present():
            found = [config for config in self._configs.values() if config.name == name]
            return dict(found[0].spec.get("Labels") or {}) if found else {}

    def containers(self) -> list[Container]:
        """What really runs now, on all nodes, also where no manager sees it."""
        with self._at_present() as engine:
            return list(engine.containers.values())

    def end(self, container: str, exit_code: int) -> None:
        """Let a container end by itself: 137 is `kill -9`, or too little memory."""
        with self._at_present() as engine:
            engine.end_container(engine.containers[container], exit_code)

    def _started(self, container: Container) -> None:
        container.work_s = self.work_s
        self._hooks.started(container)

    def work(self, container: str, seconds: float) -> None:
        """How long a container goes on after SIGTERM."""
        with self._at_present() as engine:
            engine.containers[container].work_s = seconds

    def tell(self, hooks: Hooks) -> None:
        """Call these when containers start, are told to stop, and end. They must not block."""
        with self._at_present() as engine:
            self._hooks = hooks
            engine.hooks = replace(hooks, started=self._started)

    def _service(self, name: str) -> Service:
        for service in self._engine.services.values():
            if name in (service.id, service.name):
                return service
        raise Problem(404, f"service {name} not found")

    # The API

    def _date(self) -> float:
        return self.now_s

    def _events(self) -> tuple[list[Json], Callable[[], bool]]:
        return self._engine.events, self._closing.is_set

    def _routes(self, name: str) -> Route:
        def route(method: str, path: list[str], query: dict[str, str], body: Json) -> Any:
            if path == ["version"]:
                return {"ApiVersion": "1.41", "MinAPIVersion": "1.12", "Version": "20.10.24"}
            with self._at_present():
                manager = self._node(name).manager
            if not manager:
                raise Problem(503, NOT_A_MANAGER)
            if method != "GET":
                self.writes.append(("/" + "/".join(path), body))
            self._need_leader(writing=method != "GET")
            with self._at_present():
                return self._answer(method, path, query, body)

        return route

    def _answer(self, method: str, path: list[str], query: dict[str, str], body: Json) -> Any:
        filters = json.loads(query.get("filters", "{}"))
        match method, path:
            case "GET", ["swarm"]:
                tokens = {"Worker": self.worker_token, "Manager": "SWMTKN-of-managers"}
                return {"ID": "swarm", "JoinTokens": tokens}
            case "GET", ["tasks"]:
                return [task.show() for task in self._tasks(filters)]
            case _, ["services", *rest]:
                return self._answer_services(method, rest, query, body)
            case _, ["nodes", *rest]:
                return self._answer_nodes(method, rest, query, body)
            case _, ["configs", *rest]:
                return self._answer_configs(method, rest, query, body, filters)
        raise Problem(404, "page not found")

    def _answer_services(
        self, method: str, path: list[str], query: dict[str, str], body: Json
    ) -> Any:
        match method, path:
            case "GET", [name]:
                return self._service(name).show(
                    defaults=query.get("insertDefaults", "").lower() == "true"
                )
            case "POST", ["create"]:
                return self._create_service(body)
            case "POST", [name, "update"]:
                service = self._service(name)
                self._compare(service.version, query)
                if query.get("rollback") == "previous":  # what the body says is not looked at
                    self._engine.roll_back(service)
                    return {"Warnings": None}
                # Go reads names in any case, and docker-py writes this one small.
                mode = {key.capitalize(): value for key, value in body["Mode"].items()}
                self._engine.update_service(service, {**body, "Mode": mode})
                return {"Warnings": None}
            case "DELETE", [name]:
                return self._engine.remove_service(self._service(name))
        raise Problem(404, "page not found")

    def _create_service(self, spec: Json) -> Json:
        if any(service.name == spec["Name"] for service in self._engine.services.values()):
            raise _exists(spec["Name"])
        return {"ID": self._engine.create_service(spec).id}

    def _tasks(self, filters: dict[str, list[str]]) -> list[Task]:
        wanted = filters.get("service")
        for service in wanted or ():
            if not any(service in (each.id, each.name) for each in self._engine.services.values()):
                raise Problem(404, f"service {service} not found")
        return [
            task
            for task in self._engine.tasks.values()
            if wanted is None or task.service.id in wanted or task.service.name in wanted
        ]

    def _answer_nodes(self, method: str, path: list[str], query: dict[str, str], body: Json) -> Any:
        if not path:
            return [self._show(node) for node in self._engine.nodes.values()]
        node = self._engine.nodes.get(path[0]) or next(
            (node for node in self._engine.nodes.values() if node.name == path[0]), None
        )
        if node is None:
            raise Problem(404, f"node {path[0]} not found")
        match method, path[1:]:
            case "GET", []:
                return self._show(node)
            case "POST", ["update"]:
                self._compare(node.version, query)
                return self._engine.update_node(node, body)
            case "DELETE", []:
                if node.state != "down":
                    raise Problem(
                        400,
                        f"rpc error: code = FailedPrecondition desc = node {node.id} is not down "
                        "and can't be removed",
                    )
                return self._engine.remove_node(node)
        raise Problem(404, "page not found")

    def _answer_configs(
        self,
        method: str,
        path: list[str],
        query: dict[str, str],
        body: Json,
        filters: dict[str, list[str]],
    ) -> Any:
        match method, path:
            case "GET", []:
                return [
                    config.show() for config in self._configs.values() if _fits(config, filters)
                ]
            case "POST", ["create"]:
                return self._create_config(body)
        found = [c for c in self._configs.values() if path[0] in (c.id, c.name)]
        if not found:
            raise Problem(404, f"config {path[0]} not found")
        config = found[0]
        match method, path[1:]:
            case "GET", []:
                return config.show()
            case "POST", ["update"]:
                self._compare(config.version, query)
                if {**config.spec, "Labels": 0} != {**body, "Labels": 0}:
                    raise Problem(400, "only updates to Labels are allowed")
                config.spec, config.version = body, self._engine.next_version()
                return None
            case "DELETE", []:
                del self._configs[config.id]
                return None
        raise Problem(404, "page not found")

    def _create_config(self, spec: Json) -> Json:
        if any(config.name == spec["Name"] for config in self._configs.values()):
            raise _exists(spec["Name"])
        base64.b64decode(spec["Data"], validate=True)
        engine = self._engine
        config = Config(
            id=engine.new_id("c"),
            spec=spec,
            version=engine.next_version(),
            created_s=engine.now_s,
        )
        self._configs[config.id] = config
        return {"ID": config.id}

    @staticmethod
    def _compare(version: int, query: dict[str, str]) -> None:
        if query.get("version") != str(version):
            raise Problem(500, OUT_OF_SEQUENCE)


def _exists(name: str) -> Problem:
    return Problem(
        409,
        f"rpc error: code = AlreadyExists desc = name conflicts with an existing object: {name} "
        "already exists",
    )


def _fits(config: Config, filters: dict[str, list[str]]) -> bool:
    labels = config.spec.get("Labels") or {}
    pairs = [label.partition("=") for label in filters.get("label", [])]
    names = filters.get("name")
    return all(labels.get(key) == value for key, _, value in pairs) and (
        names is None or any(config.name.startswith(name) for name in names)
    )
