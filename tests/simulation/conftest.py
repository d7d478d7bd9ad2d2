"""A core that does what a test tells it: the network and the checkers are proved with it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from gossip.codec import encode
from gossip.errors import BadPacket
from gossip.load import Load
from gossip.messages import Keys, Message
from gossip.rows import Address, Body, Row, State
from gossip.sealing import Envelope
from membership.changes import Change
from membership.cluster import Outgoing, Output
from membership.config import MembershipConfig
from membership.view import Member, View
from tests.simulation.host import Host
from tests.simulation.world import Checker, World


@dataclass
class Puppet:
    """A core without a will: it says, believes and tells what a test puts into it.

    Attributes:
        heard: The sender's uid, and when it was received, of every datagram so far.
        ticks: The times of its ticks.
    """

    host: Host
    envelope: Envelope
    rows: dict[int, Row]
    heard: list[tuple[int, float]] = field(default_factory=list)
    ticks: list[float] = field(default_factory=list)
    outgoing: list[Outgoing] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    period_s: float = math.inf
    due_at: float = math.inf

    def say(self, to: Host, message: Message) -> None:
        """Send something at the next poll."""
        self.outgoing.append(Outgoing(to.address, self.envelope.seal(encode(message))))

    def handle(
        self,
        now: float,
        datagram: bytes,
        source: Address,
        received_at: float | None = None,
        late_s: float | None = None,
    ) -> None:
        """Note who has sent it, and believe that it lives."""
        try:
            session = self.envelope.open_untrusted(datagram).session
        except BadPacket:
            return
        session.verified = True
        self.heard.append((session.uid, now if received_at is None else received_at))

    def tick(self, now: float) -> None:
        """Note the time."""
        self.ticks.append(now)
        self.due_at = now + self.period_s

    def due(self) -> float:
        """When it wants to tick."""
        return self.due_at

    def poll(self) -> Output:
        """Give what the test has put in."""
        output = Output(self.outgoing, self.changes, [])
        self.outgoing, self.changes = [], []
        return output

    def join(self, now: float, seeds: Sequence[Address]) -> None:
        """Do nothing."""

    def set_load(self, now: float, load: Load) -> None:
        """Do nothing."""

    def set_body(self, now: float, body: Body) -> None:
        """Do nothing."""

    def set_keys(self, now: float, keys: Keys) -> bool:
        """Do nothing."""
        return True

    def leave(self, now: float) -> None:
        """Do nothing."""

    def view(self, now: float) -> View:
        """Return the rows that the test has put in."""
        members = tuple(
            Member(
                row=row,
                age_s=0.0,
                load=None,
                load_age_s=math.inf,
                silent=False,
                own=row.uid == self.host.uid,
            )
            for row in self.rows.values()
        )
        return View(
            own_uid=self.host.uid,
            members=members,
            leader=None,
            candidate=None,
            quorate=True,
            deaf=False,
            suspected=False,
            mass_event=False,
        )


class Theatre:
    """A world of puppets that all know each other."""

    def __init__(self, size: int, *checkers: Checker) -> None:
        self.world = World("theatre", checkers=checkers, make_core=self._make)
        self.puppets: list[Puppet] = []
        for _ in range(size):
            self.world.start(self.world.add())
        for puppet in self.puppets:
            for other in self.puppets:
                self.believe(puppet, other)

    def _make(self, host: Host, now: float, config: MembershipConfig, envelope: Envelope) -> Puppet:
        puppet = Puppet(host, envelope, {})
        self.puppets.append(puppet)
        self.believe(puppet, puppet)
        return puppet

    def believe(
        self,
        puppet: Puppet,
        subject: Puppet,
        state: State = State.ALIVE,
        *,
        incarnation: int = 0,
    ) -> Row:
        """Put a row into a puppet's table."""
        host = subject.host
        row = Row(host.uid, host.epoch, incarnation, state, host.body())
        puppet.rows[host.uid] = row
        return row

    def act(self, for_s: float = 1.1) -> None:
        """Let time go by; what puppets have to say comes out at the chores of each second."""
        self.world.run(self.world.now + for_s)


@pytest.fixture
def theatre() -> Callable[..., Theatre]:
    """Make a world of puppets under some checkers."""
    return Theatre
