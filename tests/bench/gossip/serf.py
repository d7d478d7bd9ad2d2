"""The anchor: Debian's serf, with the LAN profile, as it comes: neither encrypted nor tuned.

What its agents say is read from their log, at the moment at which a line comes. Its event stream
would be a second or more later, because it gathers events first. Commands go over its RPC protocol:
MessagePack over TCP, a header and a body for each request, a header and perhaps a body in answer.

serf has no load of its own; a tag that is set anew every second is the nearest that it has.
"""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import msgpack  # type: ignore[import-untyped] # it has no annotations

from tests.bench.gossip.namespace import PORT, address
from tests.bench.gossip.products import Agent, Dump, Kind, Said

if TYPE_CHECKING:
    from tests.bench.gossip.fleet import Fleet

RPC_PORT = 7373
RPC_TIMEOUT_S = 30.0
LOAD_INTERVAL_S = 1.0
READY = "Serf agent running"
SAID = (
    (Kind.JOINED, re.compile(r"serf: EventMemberJoin: (\S+)")),
    (Kind.SUSPECTED, re.compile(r"memberlist: Suspect (\S+) has failed")),
    (Kind.DIED, re.compile(r"serf: EventMemberFailed: (\S+)")),
)


class Serf:
    """The product `serf`.

    Args:
        program: Where it is.
    """

    name = "serf"
    # Over a lost ping it asks again by TCP; loss that spares TCP would be no loss to it.
    lossy: Sequence[str] = ("udp", "tcp")
    spreads_suspicion = False

    def __init__(self, program: str) -> None:
        self._program = program
        self._stopping = threading.Event()
        self._updaters: list[threading.Thread] = []

    def command(self, index: int, *, join: Sequence[str]) -> list[str]:
        """Return how to start an agent."""
        host = address(index)
        return [
            self._program,
            "agent",
            f"-node={_name(index)}",
            f"-bind={host}:{PORT}",
            f"-rpc-addr={host}:{RPC_PORT}",
            *(f"-join={seed}" for seed in join),
        ]

    def read(self, agent: Agent, at: float, text: str) -> Said | None:
        """Understand a line of an agent's log."""
        if READY in text:
            agent.key = _name(agent.index)
            agent.ready = True
        for kind, pattern in SAID:
            found = pattern.search(text)
            if found and found[1] != _name(agent.index):
                # Who doubts an agent does so on its own; each suspicion is one of its own.
                episode = f"{found[1]}@{agent.index}@{at:.3f}"
                return Said(at, agent.index, kind, found[1], episode)
        return None

    def join(self, agents: Sequence[Agent], seed: str) -> None:
        """Tell all of them at once to join the seed, and do not wait for the answers."""
        with ExitStack() as connected:
            # That a connection is closed at the end does not end its command.
            clients = [connected.enter_context(Client(address(agent.index))) for agent in agents]
            for client in clients:
                client.send("join", {"Existing": [seed], "Replay": False})

    def start_loads(self, agents: Sequence[Agent]) -> None:
        """Set a tag of every agent once a second, or as often as it gets done."""
        self._stopping.clear()
        self._updaters = [
            threading.Thread(target=self._update, args=(agent.index,)) for agent in agents
        ]
        for updater in self._updaters:
            updater.start()

    def stop_loads(self) -> None:
        """End that."""
        self._stopping.set()
        for updater in self._updaters:
            updater.join(timeout=RPC_TIMEOUT_S)
        self._updaters = []

    def _update(self, index: int) -> None:
        due = time.monotonic() + LOAD_INTERVAL_S * index / max(1, len(self._updaters))
        while not self._stopping.is_set():
            try:
                with Client(address(index)) as client:
                    while not self._stopping.wait(max(0.0, due - time.monotonic())):
                        due = max(due + LOAD_INTERVAL_S, time.monotonic())
                        # What serf gives up on is answered with an error, and the next one follows.
                        client.ask("tags", {"Tags": {"at": f"{time.monotonic():.3f}"}}, body=False)
            except OSError:
                # Not even an answer came: say it again over another connection.
                continue

    def dump(self, fleet: Fleet, agents: Sequence[Agent]) -> list[Dump]:
        """Ask agents how old the others' tags are. Of itself serf says nothing."""
        del fleet
        return [Dump(load_ages_s=_ages(agent), late={}, fingerprint="") for agent in agents]


def _ages(observer: Agent) -> list[float]:
    with Client(address(observer.index)) as client:
        answer = client.ask("members", None, body=True)
    now = time.monotonic()
    return [
        now - float(member[b"Tags"][b"at"])
        for member in answer[b"Members"]
        if b"at" in member[b"Tags"] and member[b"Name"].decode() != observer.key
    ]


class Client:
    """A connection to an agent's RPC port."""

    def __init__(self, host: str) -> None:
        self._socket = socket.create_connection((host, RPC_PORT), timeout=RPC_TIMEOUT_S)
        self._unpacker = msgpack.Unpacker(raw=True)
        self._sequence = 0
        self.ask("handshake", {"Version": 1}, body=False)

    def send(self, command: str, arguments: Mapping[str, Any] | None) -> None:
        """Send a request."""
        self._sequence += 1
        header = msgpack.packb({"Command": command, "Seq": self._sequence})
        body = msgpack.packb(arguments) if arguments is not None else b""
        self._socket.sendall(header + body)

    def ask(self, command: str, arguments: Mapping[str, Any] | None, *, body: bool) -> Any:
        """Send a request and return the body of the answer, if it has one."""
        self.send(command, arguments)
        header = self._receive()
        failed = header.get(b"Error")
        return self._receive() if body and not failed else None

    def _receive(self) -> Any:
        while True:
            for value in self._unpacker:
                return value
            received = self._socket.recv(1 << 16)
            if not received:
                raise ConnectionError("serf has closed its RPC connection")
            self._unpacker.feed(received)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


def _name(index: int) -> str:
    return f"serf-{index:03d}"
