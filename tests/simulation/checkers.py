"""What must never happen, whatever is done to the network and the machines: one class each.

A checker sees the true world (who sent what, who was handed what, when) and each peer's view, and
compares. It knows the promises, not how the core keeps them. What must come to hold in the end is
in `settled.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

from gossip.config import DATAGRAM_BYTES_MAX
from gossip.messages import Alert, AlertOk, Heartbeat, Message
from gossip.rows import State
from gossip.sealing import Session
from membership.changes import Change, MemberDied, MemberJoined, MemberRecovered
from membership.cluster import Outgoing
from membership.view import View
from tests.simulation.host import HEADERS_BYTES, Host
from tests.simulation.world import Checker, Violation, World

Life = tuple[int, int]
"""A host and its start."""

Start = tuple[int, int]
"""A uid and an epoch."""


def life(host: Host) -> Life:
    """Name one life of one host."""
    return (host.number, host.life)


def every_rule() -> list[Checker]:
    """Return one of each that can fail."""
    return [
        RowsOnlyAdvance(),
        OwnRowStands(),
        DeathNeedsEvidence(),
        HealthyNeverDie(),
        BytesWithinBudget(),
        DatagramsFit(),
        NobodyReturnsFromTheDead(),
        TableStaysBounded(),
    ]


class RowsOnlyAdvance(Checker):
    """(epoch, incarnation, state) of any row at any peer never goes back."""

    def __init__(self) -> None:
        self._orders: dict[Life, dict[int, tuple[int, int, int]]] = {}

    def sampled(self, world: World, host: Host, view: View) -> None:
        before = self._orders.get(life(host), {})
        after = {member.row.uid: member.row.order for member in view.members}
        for uid, order in after.items():
            if order < before.get(uid, order):
                raise Violation(
                    f"the row of {uid:016x} at {host.name} went back from {before[uid]} to {order}"
                )
        self._orders[life(host)] = after


class OwnRowStands(Checker):
    """Nobody downgrades a peer's own row: it is ALIVE until its owner leaves."""

    def sampled(self, world: World, host: Host, view: View) -> None:
        own = [member.row for member in view.members if member.own]
        if len(own) != 1 or own[0].uid != host.uid or view.own_uid != host.uid:
            raise Violation(f"{host.name} has not exactly one row of its own: {own}")
        if own[0].state is not (State.LEFT if host.leaving else State.ALIVE):
            raise Violation(f"{host.name} runs, and its own row says {own[0].state.name}")
        if own[0].epoch != host.epoch:
            raise Violation(f"{host.name} started as epoch {host.epoch} and says {own[0].epoch}")


class DeathNeedsEvidence(Checker):
    """Who decides a death has heard nothing itself for long enough, and as many others as it
    counted said the same shortly before; and who raises an alert has truly heard nothing."""

    def __init__(self) -> None:
        self._heard: dict[Life, dict[Start, float]] = {}
        self._grace_s: dict[Life, dict[Start, float]] = {}
        self._alerts: dict[Life, dict[Start, dict[int, float]]] = {}

    def heard(
        self, world: World, host: Host, session: Session, at: float, message: Message | None
    ) -> None:
        if isinstance(message, Alert) or (isinstance(message, AlertOk) and message.silent):
            accused = (message.uid, message.epoch)
            self._alerts.setdefault(life(host), {}).setdefault(accused, {})[session.uid] = at
        if not session.verified:
            return
        mine = self._heard.setdefault(life(host), {})
        start = (session.uid, session.epoch)
        mine[start] = max(at, mine.get(start, at))
        if isinstance(message, Heartbeat):
            self._grace_s.setdefault(life(host), {})[start] = message.grace_s

    def silent_s(self, host: Host, start: Start) -> float:
        """Return for how long a host has truly heard nothing of a peer, on its own clock."""
        return host.now - self._heard.get(life(host), {}).get(start, float("-inf"))

    def sent(self, world: World, host: Host, outgoing: Outgoing, message: Message | None) -> None:
        if not isinstance(message, Alert):
            return
        config = world.config
        least_s = (config.misses_min + 0.5) * config.heartbeat_interval_s
        truly_s = self.silent_s(host, (message.uid, message.epoch))
        if truly_s < least_s - 0.1:
            raise Violation(f"{host.name} raises an alert after {truly_s:.1f} s only")
        if truly_s < message.silent_s - 0.2:
            raise Violation(
                f"{host.name} says that {message.uid:016x} was silent for {message.silent_s:.1f} s,"
                f" and has heard it {truly_s:.2f} s ago"
            )

    def changed(self, world: World, host: Host, change: Change) -> None:
        if not isinstance(change, MemberDied) or change.quorum == 0:
            return
        start, config = (change.row.uid, change.row.epoch), world.config
        name = f"{change.row.uid:016x}"
        needed_s = max(config.dead_silence_s, self._grace_s.get(life(host), {}).get(start, 0.0))
        silent_s = self.silent_s(host, start)
        if silent_s < needed_s - 0.2:
            raise Violation(
                f"{host.name} calls {name} dead, and has heard it {silent_s:.2f} s ago;"
                f" {needed_s:.1f} s are needed"
            )
        alerts = self._alerts.get(life(host), {}).get(start, {})
        recent = [other for other, at in alerts.items() if at >= host.now - config.alert_valid_s]
        if change.witnesses < change.quorum or len(recent) + 1 < change.quorum:
            raise Violation(
                f"{host.name} calls {name} dead by a quorum of {change.quorum}, and"
                f" {len(recent)} others have told it in the last {config.alert_valid_s} s"
            )
        members = [m for m in world.view(host).members if m.state <= State.SUSPECT]
        if change.quorum < 2 and len(members) + 1 >= 3:
            raise Violation(f"{host.name} alone calls {name} dead, and there are others")


class HealthyNeverDie(Checker):
    """No peer is called dead that runs, is connected, and was not frozen for long."""

    def changed(self, world: World, host: Host, change: Change) -> None:
        if not isinstance(change, MemberDied):
            return
        for subject in world.hosts:
            same_life = (subject.uid, subject.epoch) == (change.row.uid, change.row.epoch)
            if same_life and subject.core is not None and subject.excused_until < world.now:
                raise Violation(
                    f"{host.name} calls {subject.name} ({subject.uid:016x}) dead, and it is well"
                )


class BytesWithinBudget(Checker):
    """In every window, a peer sends at most its burst and its rate times the window."""

    def __init__(self) -> None:
        self._level: dict[Life, tuple[float, float]] = {}

    def sent(self, world: World, host: Host, outgoing: Outgoing, message: Message | None) -> None:
        gossip = world.config.gossip
        level, at = self._level.get(life(host), (0.0, host.now))
        level = max(0.0, level - (host.now - at) * gossip.bytes_per_s)
        level += len(outgoing.datagram) + HEADERS_BYTES
        if level > gossip.burst_bytes + 1e-3:
            raise Violation(f"{host.name} sends more than its budget: {message}")
        self._level[life(host)] = (level, host.now)


class DatagramsFit(Checker):
    """No datagram is longer than every path can carry in one piece."""

    def sent(self, world: World, host: Host, outgoing: Outgoing, message: Message | None) -> None:
        if len(outgoing.datagram) > DATAGRAM_BYTES_MAX:
            raise Violation(f"{host.name} sends {len(outgoing.datagram)} bytes: {message}")


class NobodyReturnsFromTheDead(Checker):
    """Once everybody knows that a peer is dead or gone, nobody believes it to be alive again."""

    def __init__(self) -> None:
        self._buried: dict[int, int] = {}
        self._mourners: dict[int, dict[Life, None]] = {}

    def sampled(self, world: World, host: Host, view: View) -> None:
        known = {member.row.uid: member.row for member in view.members}
        for other in self._gone(world):
            row = known.get(other.uid)
            believed = row is not None and row.state <= State.SUSPECT and row.epoch <= other.epoch
            if other.uid in self._buried:
                if believed and other.epoch <= self._buried[other.uid]:
                    raise Violation(f"{host.name} has {other.name} alive again, which is long dead")
                continue
            mourners = self._mourners.setdefault(other.uid, {})
            if believed:
                mourners.pop(life(host), None)
            else:
                mourners[life(host)] = None
            if all(life(one) in mourners for one in world.hosts if one.core is not None):
                self._buried[other.uid] = other.epoch

    def changed(self, world: World, host: Host, change: Change) -> None:
        if isinstance(change, MemberJoined | MemberRecovered):
            buried = self._buried.get(change.row.uid, -1)
            if change.row.epoch <= buried:
                raise Violation(f"{host.name} believes the dead: {change}")

    @staticmethod
    def _gone(world: World) -> Iterator[Host]:
        return (host for host in world.hosts if host.gone and host.core is None)


class TableStaysBounded(Checker):
    """A table holds only peers that exist or existed, and a bounded number of the dead."""

    def sampled(self, world: World, host: Host, view: View) -> None:
        dead = 0
        for member in view.members:
            if member.row.uid not in world.uids:
                raise Violation(f"{host.name} knows of {member.row.uid:016x}, which never was")
            dead += member.state >= State.DEAD
        living = len(view.members) - dead
        if dead > max(world.config.gossip.tombstones_min, living // 2 + 1):
            raise Violation(f"{host.name} remembers {dead} dead beside {living} living")
