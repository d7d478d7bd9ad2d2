"""A cluster that is not there: a thousand peers in one process, for one real agent to know.

    python -m tests.bench.gossip.ghosts --count 1000 --key-file K

Each ghost has a uid, a socket at an address of its own, and seals as a peer does; all share one
table, in which everybody is alive. They say what a peer hears from a cluster of that size:
heartbeats from whom it watches, watches from who watches it, four datagrams of loads a second, a
digest every two. Once it knows them, each ghost speaks once: so it holds a session with every one.

Rejected: a table written into the agent. What a peer keeps about a thousand others is more than
their rows: sessions with ciphers, loads, rumours.
"""

from __future__ import annotations

import argparse
import random
import selectors
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gossip import keys
from gossip.codec import decode_untrusted, encode
from gossip.config import DATAGRAM_BYTES_MAX, GossipConfig
from gossip.dissemination import Dissemination
from gossip.errors import BadPacket
from gossip.load import Load
from gossip.load_table import LoadTable
from gossip.messages import (
    Ack,
    Alert,
    AlertOk,
    Digest,
    Gossip,
    Heartbeat,
    Join,
    JoinOk,
    Keys,
    Message,
    Page,
    Ping,
    PingRequest,
    Watch,
    WatchOk,
)
from gossip.rows import Address, AgedRow, Body, Row, State
from gossip.sealing import SealedEnvelope
from membership.config import lan
from membership.ring import observers
from tests.bench.gossip.agent import LABEL
from tests.bench.gossip.namespace import PORT, address

HEARTBEATS_PER_S = 2
GOSSIPS_PER_S = 4
DIGESTS_PER_S = 0.5
GREETINGS_PER_S = 60
LOADS_IN_A_GOSSIP = 70
LEASE_S = 30.0
READY = "ghosts are ready"


@dataclass(slots=True, kw_only=True)
class Ghost:
    """One peer that is not there.

    Args:
        watched: The agent has asked for its heartbeats.
    """

    row: Row
    socket: socket.socket
    envelope: SealedEnvelope
    loads: LoadTable
    watched: bool = False
    sequence: int = field(default=0)

    def send(self, to: Address, message: Message) -> None:
        """Send a message; the agent may have gone."""
        try:
            self.socket.sendto(self.envelope.seal(encode(message)), to)
        except OSError:
            return


class Ghosts:
    """All of them, and what they say together."""

    def __init__(self, count: int, key_file: Path, rng: random.Random) -> None:
        self._rng = rng
        self._config = lan()
        self._gossip = GossipConfig()
        ring = keys.first(keys.parse_material(key_file.read_text()))
        self._ghosts = [self._make(index + 1, ring) for index in range(count)]
        self._by_uid = {ghost.row.uid: ghost for ghost in self._ghosts}
        self._spread = Dissemination(
            self._gossip,
            own=self._ghosts[0].row,
            now=time.monotonic(),
            rng=rng,
            body_bytes_max=DATAGRAM_BYTES_MAX - SealedEnvelope.overhead,
        )
        self._spread.merge(
            time.monotonic(), [AgedRow(ghost.row, 0.0) for ghost in self._ghosts[1:]]
        )
        self._selector = selectors.DefaultSelector()
        for ghost in self._ghosts:
            self._selector.register(ghost.socket, selectors.EVENT_READ, ghost)
        self._agent: Row | None = None
        self._joined = False
        self._greeted = 0

    def _make(self, index: int, ring: Keys) -> Ghost:
        uid, epoch = self._rng.getrandbits(64), int(time.time())
        bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        bound.bind((address(index), PORT))
        bound.setblocking(False)
        name, container = f"ghost-{index:04d}", f"{self._rng.getrandbits(48):012x}"
        body = Body(
            address=(address(index), PORT),
            name=name,
            node=f"node-{index // 20:03d}",
            container=container,
            version="0.1.0",
            keys=keys.stamp(ring),
        )
        salt = self._rng.getrandbits(32)
        return Ghost(
            row=Row(uid, epoch, 0, State.ALIVE, body),
            socket=bound,
            envelope=SealedEnvelope(label=LABEL, keys=ring, uid=uid, epoch=epoch, salt=salt),
            loads=LoadTable(self._gossip, uid, epoch),
        )

    def run(self) -> None:
        """Haunt until killed."""
        timers: list[tuple[float, Callable[[], None]]] = [
            (1 / HEARTBEATS_PER_S, self._beat),
            (1 / GOSSIPS_PER_S, self._tell_loads),
            (1 / DIGESTS_PER_S, self._compare),
            (1 / GREETINGS_PER_S, self._greet),
            (1.0, self._live_on),
            (LEASE_S / 3, self._watch),
        ]
        due = [time.monotonic()] * len(timers)
        while True:
            for key, _ in self._selector.select(max(0.0, min(due) - time.monotonic())):
                self._receive(key.data)
            for number, (interval_s, act) in enumerate(timers):
                if due[number] <= time.monotonic():
                    due[number] += interval_s
                    act()

    def _receive(self, ghost: Ghost) -> None:
        try:
            datagram, source = ghost.socket.recvfrom(2 * DATAGRAM_BYTES_MAX)
            message = decode_untrusted(ghost.envelope.open_untrusted(datagram).body)
        except (BadPacket, OSError):
            return
        for answer in self._answers(ghost, message, source):
            ghost.send(source, answer)

    def _answers(self, ghost: Ghost, message: Message, source: Address) -> Sequence[Message]:
        now, row = time.monotonic(), ghost.row
        match message:
            case Join(nonce=nonce, rows=rows):
                answers: Sequence[Message] = [self._welcome(row, nonce, rows, source)]
            case Ping(nonce=nonce):
                own = (AgedRow(row, 0.0),)
                answers = [Ack(nonce=nonce, uid=row.uid, epoch=row.epoch, rows=own)]
            case PingRequest(nonce=nonce, uid=uid, epoch=epoch):
                answers = [Ack(nonce=nonce, uid=uid, epoch=epoch)]
            case Watch(nonce=nonce, lease_s=lease_s):
                ghost.watched = lease_s > 0
                watchers = observers(self._spread.table.present, row.uid, self._config.observers)
                answers = [WatchOk(nonce=nonce, lease_s=lease_s, observers=watchers)]
            case Alert(uid=uid, epoch=epoch):
                answers = [AlertOk(uid=uid, epoch=epoch, silent=False)]
            case Digest():
                self._joined = self._joined or message.count >= len(self._ghosts)
                answers = self._spread.answer_digest(now, message)
            case Page():
                self._spread.merge(now, message.rows)
                answers = self._spread.answer_page(now, message)
            case Gossip(rows=rows) | Heartbeat(rows=rows):
                self._spread.merge(now, rows)
                answers = []
            case _:
                answers = []
        return answers

    def _welcome(self, row: Row, nonce: int, rows: Sequence[AgedRow], source: Address) -> JoinOk:
        now = time.monotonic()
        self._agent = rows[0].row
        self._spread.merge(now, rows)
        self._watch()
        welcome = self._spread.welcome(now, rows[0].row.uid).rows
        return JoinOk(
            nonce=nonce,
            challenge=self._rng.getrandbits(64),
            observed=source,
            count=len(self._ghosts),
            rows=(AgedRow(row, 0.0), *welcome),
        )

    def _send_from(self, ghost: Ghost, message: Message) -> None:
        if self._agent is not None:
            ghost.send(self._agent.body.address, message)

    def _beat(self) -> None:
        for ghost in self._ghosts:
            if ghost.watched:
                ghost.sequence += 1
                beat = Heartbeat(
                    sequence=ghost.sequence,
                    incarnation=0,
                    tardiness=0,
                    grace_s=0.0,
                    loads=ghost.loads.own_record(time.monotonic()),
                )
                self._send_from(ghost, beat)

    def _tell_loads(self) -> None:
        now = time.monotonic()
        sender, *told = self._rng.sample(self._ghosts, min(len(self._ghosts), LOADS_IN_A_GOSSIP))
        for ghost in told:
            ghost.loads.set_own(now, Load(cpu=self._rng.random(), slots=2))
        self._send_from(
            sender, Gossip(loads=b"".join(ghost.loads.own_record(now) for ghost in told))
        )

    def _greet(self) -> None:
        if self._joined and self._greeted < len(self._ghosts):
            self._send_from(self._ghosts[self._greeted], Gossip())
            self._greeted += 1

    def _compare(self) -> None:
        self._send_from(self._rng.choice(self._ghosts), self._spread.digest(time.monotonic()))

    def _live_on(self) -> None:
        now = time.monotonic()
        for ghost in self._ghosts:
            self._spread.table.heard(ghost.row.uid, now)

    def _watch(self) -> None:
        if self._agent is None:
            return
        present = self._spread.table.present
        for uid in observers(present, self._agent.uid, self._config.observers):
            self._send_from(
                self._by_uid[uid], Watch(nonce=self._rng.getrandbits(64), lease_s=LEASE_S)
            )


def main() -> None:
    """Read the options, and haunt."""
    parser = argparse.ArgumentParser(description="Peers that are not there.")
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--key-file", type=Path, required=True)
    options = parser.parse_args()
    ghosts = Ghosts(options.count, options.key_file, random.Random(1))
    sys.stdout.write(READY + "\n")
    sys.stdout.flush()
    ghosts.run()


if __name__ == "__main__":
    main()
