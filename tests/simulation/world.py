"""Many cores on one machine, in virtual time: a heap of timed steps, and nothing that waits.

Every source of chance is one `random.Random` made from the seed, nothing iterates over a set, and
no clock is read: the same seed gives the same run, byte for byte. Rejected: running the peers
under trio with its mock clock; ten runs gave ten schedules.

The world also plays each peer's shell (`membership/service.py` and `loop.py`): it lets routine
datagrams gather, drains the socket before it ticks, sends what `poll` gives, asks seeds, and saves
what must outlive a restart.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Sequence

from gossip.keys import newer
from gossip.load import Load
from gossip.messages import Keys, Message, Verb
from gossip.rows import Address, State
from gossip.sealing import Envelope, PlainEnvelope, SealedEnvelope, Session
from membership.changes import Change, IdentityLost, KeysChanged, OrderReceived
from membership.cluster import Cluster, Outgoing
from membership.config import MembershipConfig, lan
from membership.joining import next_pause_s
from membership.loop import ATTENTION
from membership.view import View
from tests.simulation.clock import Clock
from tests.simulation.host import HEADERS_BYTES, Core, Host, Packet, Tap
from tests.simulation.network import Network, Weather
from tests.simulation.trace import Trace

LABEL = "simulation"
EPOCH_BASE = 1_000_000
"""What the hosts' calendars show when the world begins: an epoch is at least the time."""

EXCUSE_S = 30.0
"""For so long after a fault its victim's death may still come out: rumours and old alerts."""

FREEZE_HARMLESS_S = 5.0
"""A freeze that is no longer than this excuses no death: the shortest silence that may is 6 s."""

CHORES_S = 1.0
LEAVING_S = 1.0
TICKS_AT_ONCE_MAX = 1000
RECORDINGS_MAX = 400

MakeCore = Callable[[Host, float, MembershipConfig, Envelope], Core]


class Violation(AssertionError):
    """Something happened that must never happen."""


class Checker:
    """Watches a run, and raises `Violation`. Every hook may be left out."""

    def started(self, world: World, host: Host) -> None:
        """A host began a life."""

    def sent(self, world: World, host: Host, outgoing: Outgoing, message: Message | None) -> None:
        """A host has sent a datagram."""

    def heard(
        self, world: World, host: Host, session: Session, at: float, message: Message | None
    ) -> None:
        """A host was handed an authentic datagram, received at `at` on its own clock; it may not
        have obeyed it (yet), if the session is not verified."""

    def changed(self, world: World, host: Host, change: Change) -> None:
        """A core told of a change."""

    def sampled(self, world: World, host: Host, view: View) -> None:
        """A host's view, every `World.sample_s`."""


def real_core(host: Host, now: float, config: MembershipConfig, envelope: Envelope) -> Core:
    """Make what runs in production."""
    return Cluster(
        config,
        now=now,
        uid=host.uid,
        epoch=host.epoch,
        body=host.body(),
        envelope=envelope,
        rng=random.Random(host.rng.getrandbits(64)),
    )


class World:
    """Hosts, a network between them, and what happens when.

    Args:
        seed: Everything that is drawn is drawn from it.
        checkers: See everything that happens.
        sealed: With real encryption; costs a quarter more time.
        tapped: Checkers and the trace see inside of datagrams. Without it, nothing is decoded
            twice and nothing is traced: for measuring at scale.
    """

    def __init__(
        self,
        seed: int | str,
        *,
        config: MembershipConfig | None = None,
        weather: Weather | None = None,
        checkers: Sequence[Checker] = (),
        trace: Trace | None = None,
        make_core: MakeCore = real_core,
        keys: Keys | None = None,
        tapped: bool = True,
        sample_s: float = 0.5,
    ) -> None:
        self.config = config or lan()
        self.rng = random.Random(f"world {seed}")
        self.network = Network(random.Random(f"network {seed}"), weather)
        self.trace = trace or Trace(silent=not tapped)
        self.hosts: list[Host] = []
        self.now = 0.0
        self.keys = keys
        self.sample_s = sample_s
        self.copying = False  # keep recordings, for `replay`
        self.uids: dict[int, int] = {}  # every uid there ever was: its host's number
        self._seed = seed
        self._checkers = tuple(checkers)
        self._make_core = make_core
        self._tapped = tapped
        self._heap: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._order = itertools.count()
        self._at: dict[Address, Host] = {}
        self._recordings: list[tuple[Address, Packet]] = []
        self._ticks_at_once = (0.0, 0, 0)
        if self._checkers:
            self.at(sample_s, self._sample)

    # Time ----------------------------------------------------------------------------------------

    def at(self, when: float, step: Callable[..., None], *arguments: object) -> None:
        """Plan a step."""
        heapq.heappush(self._heap, (when, next(self._order), step, arguments))

    def run(self, until: float) -> None:
        """Let the time go by."""
        heap = self._heap
        while heap and heap[0][0] <= until:
            when, _, step, arguments = heapq.heappop(heap)
            self.now = max(self.now, when)
            step(*arguments)
        self.now = until

    def run_until(self, holds: Callable[[], bool], within_s: float, step_s: float = 0.1) -> float:
        """Let the time go by until something holds, and return how long that took; infinity when
        it did not come to hold."""
        begin = self.now
        while not holds():
            if self.now - begin >= within_s:
                return float("inf")
            self.run(self.now + step_s)
        return self.now - begin

    # Hosts ---------------------------------------------------------------------------------------

    def add(self, *, clock: Clock | None = None, eligible: bool = True) -> Host:
        """Put up a machine. Nothing runs on it yet."""
        number = len(self.hosts)
        rng = random.Random(f"host {number} {self._seed}")
        host = Host(number, rng, clock or Clock(rng.uniform(0.0, 1e5)))
        host.eligible = eligible
        host.keys = self.keys
        self.hosts.append(host)
        self._at[host.address] = host
        return host

    def start(self, host: Host, seeds: Sequence[Host | Address] = ()) -> None:
        """Start a peer on a machine, with a higher epoch than ever before."""
        if host.core is not None:
            raise ValueError(f"{host.name} runs already")
        host.life += 1
        host.epoch = max(host.epoch + 1, EPOCH_BASE + int(self.now))
        host.seeds = tuple(seed.address if isinstance(seed, Host) else seed for seed in seeds)
        host.gone = host.leaving = host.was_late = False
        host.frozen_until = -1.0
        host.joined_at = float("-inf")
        host.join_pause_s = self.config.join_retry_s - CHORES_S / 2
        host.lonely = True
        host.read_at = host.attentive_until = -1.0
        host.waiting()
        envelope = self._envelope(host)
        host.tap = Tap(envelope) if self._tapped else None
        now = host.local(self.now)
        host.core = self._make_core(host, now, self.config, host.tap or envelope)
        host.wake_at = float("inf")
        self.uids[host.uid] = host.number
        self.trace.note(self.now, host.name, f"starts as {host.uid:016x} epoch {host.epoch}")
        for checker in self._checkers:
            checker.started(self, host)
        self._chores(host, host.life)

    def _envelope(self, host: Host) -> Envelope:
        salt = host.rng.getrandbits(32)
        if host.keys is None:
            return PlainEnvelope(label=LABEL, uid=host.uid, epoch=host.epoch, salt=salt)
        return SealedEnvelope(
            label=LABEL, keys=host.keys, uid=host.uid, epoch=host.epoch, salt=salt
        )

    def crash(self, host: Host, *, for_good: bool = False) -> None:
        """End a peer without a word."""
        if host.core is None:
            return
        self.trace.note(self.now, host.name, "crashes")
        host.core = None
        host.gone = for_good
        host.excuse(float("inf"))

    def restart(self, host: Host, seeds: Sequence[Host | Address] = ()) -> None:
        """Start a crashed peer again; it may be called dead for a while yet."""
        if host.core is not None:
            return
        self.start(host, seeds)
        host.excused_until = self.now + EXCUSE_S

    def leave(self, host: Host) -> None:
        """Let a peer say good-bye, and end it a second later."""
        if host.core is None or host.leaving:
            return
        self.trace.note(self.now, host.name, "leaves")
        host.leaving = True
        host.excuse(float("inf"))
        host.core.leave(host.local(self.now))
        self._collect(host)
        self.at(self.now + LEAVING_S, self._leave, host, host.life)

    def _leave(self, host: Host, life: int) -> None:
        if host.life == life and host.core is not None:
            self.trace.note(self.now, host.name, "has left")
            host.core = None
            host.gone = True

    def clone(self, host: Host) -> Host:
        """Put up a copy of a machine's disk, at another address; nothing runs on it yet."""
        copy = self.add()
        copy.uid, copy.epoch, copy.eligible = host.uid, host.epoch, host.eligible
        copy.keys = host.keys
        copy.excuse(self.now + EXCUSE_S)
        host.excuse(self.now + EXCUSE_S)
        return copy

    def move(self, host: Host, *, told: bool = True) -> None:
        """Give a machine another address, as a container gets at its restart.

        Args:
            told: Its peer knows, and says so.
        """
        self._at.pop(host.address, None)
        number = host.number + (host.life + 1) * 1000
        host.address = (f"10.{128 + (number >> 16)}.{number >> 8 & 255}.{number & 255}", 7946)
        self._at[host.address] = host
        self.trace.note(self.now, host.name, f"moves to {host.address[0]}")
        host.excuse(self.now + EXCUSE_S)
        if told and host.core is not None:
            host.core.set_body(host.local(self.now), host.body())
            self._collect(host)

    def freeze(self, host: Host, for_s: float) -> None:
        """Stop a process (SIGSTOP): it neither reads nor ticks; its socket fills."""
        until = self.now + for_s
        if host.core is None or until <= host.frozen_until:
            return
        if host.frozen_until < self.now:
            host.frozen_since = self.now
        host.frozen_until = until
        host.was_late = True
        self.trace.note(self.now, host.name, f"freezes for {for_s:.2f} s")
        if until - host.frozen_since > FREEZE_HARMLESS_S:
            host.excuse(until + EXCUSE_S)
        self.at(until, self._thaw, host, host.life)

    def starve(self, host: Host, until: float, *, off_s: tuple[float, float] = (0.1, 3.0)) -> None:
        """Let a process run only for moments, with long pauses in between."""
        if self.now >= until or host.core is None:
            return
        pause = host.rng.uniform(*off_s)
        self.freeze(host, pause)
        again = self.now + pause + host.rng.uniform(0.0, 0.1)
        self.at(again, self._starve_on, host, host.life, until, off_s)

    def _starve_on(self, host: Host, life: int, until: float, off_s: tuple[float, float]) -> None:
        if host.life == life:
            self.starve(host, until, off_s=off_s)

    def jump(self, host: Host, by_s: float) -> None:
        """Let a machine's clock go ahead at once, as after a suspension that the clock counts."""
        host.clock.jump(self.now, by_s)
        host.was_late = True
        self.trace.note(self.now, host.name, f"jumps {by_s:.1f} s ahead")
        if host.core is not None:
            self._plan(host)

    def drift(self, host: Host, rate: float) -> None:
        """Let a machine's clock run fast or slow."""
        host.clock.drift(self.now, rate)
        self.trace.note(self.now, host.name, f"has a clock of rate {rate:.3f}")
        if host.core is not None:
            self._plan(host)

    def replay(self, count: int) -> None:
        """Send recordings again, to where they were sent: a listener on the network's mischief."""
        self.trace.note(self.now, "listener", f"replays {count} of {len(self._recordings)}")
        for _ in range(count if self._recordings else 0):
            target, packet = self.rng.choice(self._recordings)
            self.at(self.now + self.rng.random(), self._arrive, target, packet)

    def inject(self, target: Host, packet: Packet) -> None:
        """Let a datagram arrive that no host has sent just now."""
        self.at(self.now, self._arrive, target.address, packet)

    def watch(self, checker: Checker) -> None:
        """Let one more checker see what happens from now on."""
        self._checkers = (*self._checkers, checker)

    def set_keys(self, host: Host, keys: Keys) -> None:
        """Change the key ring at one peer, as a person does."""
        host.keys = keys
        self.trace.note(self.now, host.name, f"is given key ring {keys.version}")
        if host.core is not None:
            host.core.set_keys(host.local(self.now), keys)
            self._collect(host)

    def running(self) -> list[Host]:
        """Return the hosts whose peers run and stay, frozen ones too."""
        return [host for host in self.hosts if host.core is not None and not host.leaving]

    def view(self, host: Host) -> View:
        """Return what a running host believes now."""
        assert host.core is not None
        return host.core.view(host.local(self.now))

    # Steps ---------------------------------------------------------------------------------------

    def _arrive(self, target: Address, packet: Packet) -> None:
        host = self._at.get(target)
        if host is None or host.core is None:
            return
        if host.frozen_until > self.now or host.read_at > self.now:
            host.receive(packet, self.now)
            return
        now = host.local(self.now)
        self._hand(host, now, packet, now, 0.0)
        self._rest(host, spoke=self._collect(host))

    def _rest(self, host: Host, *, spoke: bool) -> None:
        """Let what comes next gather for a while, as `membership/loop.py` does."""
        interval_s = self.config.listen_interval_s
        if spoke:
            host.attentive_until = self.now + ATTENTION * interval_s
        elif self.now >= host.attentive_until:
            host.read_at = min(host.wake_at, self.now + interval_s)
            self.at(host.read_at, self._read, host, host.life)

    def _read(self, host: Host, life: int) -> None:
        if host.life == life and host.core is not None and host.frozen_until <= self.now:
            self._drain(host, late_s=0.0)

    def _drain(self, host: Host, late_s: float | None = None) -> None:
        """Hand in everything that waits in the socket, and send what comes of it."""
        waiting = host.waiting()
        now = host.local(self.now)
        for packet, received_at in waiting:
            self._hand(host, now, packet, received_at, late_s)
        if waiting:
            self._rest(host, spoke=self._collect(host))

    def _hand(
        self, host: Host, now: float, packet: Packet, received_at: float, late_s: float | None
    ) -> None:
        core, tap = host.core, host.tap
        assert core is not None
        if tap is None:
            core.handle(now, packet.datagram, packet.source, received_at, late_s)
            return
        tap.opened = None
        core.handle(now, packet.datagram, packet.source, received_at, late_s)
        if tap.opened is not None:
            session, message = tap.opened
            for checker in self._checkers:
                checker.heard(self, host, session, received_at, message)

    def _thaw(self, host: Host, life: int) -> None:
        if host.life != life or host.core is None or host.frozen_until > self.now:
            return
        self._drain(host)
        host.core.tick(host.local(self.now))
        self._collect(host)

    def _wake(self, host: Host, life: int, planned: float) -> None:
        if host.life != life or host.core is None or host.wake_at != planned:
            return
        host.wake_at = float("inf")
        if host.frozen_until > self.now:
            return
        due = host.core.due()
        now = host.local(self.now)
        if now < due < now + 1e-6:  # the clock's rounding
            now = host.now = due
        self._guard_ticks(host)
        self._drain(host, late_s=0.0)
        host.core.tick(now)
        self._collect(host)

    def _guard_ticks(self, host: Host) -> None:
        when, number, count = self._ticks_at_once
        count = count + 1 if (when, number) == (self.now, host.number) else 1
        self._ticks_at_once = (self.now, host.number, count)
        if count > TICKS_AT_ONCE_MAX:
            raise Violation(f"{host.name} asks for a tick at once, for ever")

    def _collect(self, host: Host) -> bool:
        """Send and tell what has come of it; return whether there was anything."""
        core = host.core
        assert core is not None
        output = core.poll()
        for change in output.changes:
            self._change(host, change)
        tap = host.tap
        for outgoing in output.datagrams:
            host.sent_bytes += len(outgoing.datagram) + HEADERS_BYTES
            target = self._at.get(outgoing.address)
            number = target.number if target is not None else -1
            if tap is not None:
                message = tap.sent(outgoing.datagram)
                self.trace.datagram(self.now, host.number, number, outgoing.datagram, message)
                for checker in self._checkers:
                    checker.sent(self, host, outgoing, message)
            packet = Packet(outgoing.datagram, host.address, host.number)
            if self.copying:
                self._record(outgoing.address, packet)
            for delay in self.network.delays(self.now, host.number, number):
                self.at(self.now + delay, self._arrive, outgoing.address, packet)
        if tap is not None and output.datagrams:
            tap.forget_sent()
        if host.core is core:
            self._plan(host)
        return bool(output.datagrams or output.changes)

    def _record(self, target: Address, packet: Packet) -> None:
        if len(self._recordings) < RECORDINGS_MAX:
            self._recordings.append((target, packet))
        elif self.rng.random() < 0.02:
            self._recordings[self.rng.randrange(RECORDINGS_MAX)] = (target, packet)

    def _plan(self, host: Host) -> None:
        assert host.core is not None
        due = max(host.clock.true(host.core.due()), self.now)
        if due != host.wake_at:
            host.wake_at = due
            self.at(due, self._wake, host, host.life, due)

    def _change(self, host: Host, change: Change) -> None:
        self.trace.note(self.now, host.name, change)
        for checker in self._checkers:
            checker.changed(self, host, change)
        if isinstance(change, IdentityLost):
            host.uid, host.epoch = change.uid, change.epoch
            self.uids[host.uid] = host.number
            host.excuse(self.now + EXCUSE_S)
        elif isinstance(change, KeysChanged):
            host.keys = change.keys if host.keys is None else newer(host.keys, change.keys)
        elif isinstance(change, OrderReceived) and change.verb is Verb.LEAVE:
            self.at(self.now, self.leave, host)

    def _chores(self, host: Host, life: int) -> None:
        """Do once a second what a peer's shell does."""
        core = host.core
        if core is None or host.life != life:
            return
        self.at(self.now + CHORES_S, self._chores, host, life)
        if host.frozen_until > self.now or host.leaving:
            return
        now = host.local(self.now)
        rng = host.rng
        core.set_load(now, Load(cpu=rng.random(), memory=rng.random(), slots=2))
        if host.lonely:
            members = core.view(now).members
            host.lonely = not any(m.state <= State.SUSPECT and not m.own for m in members)
        if host.seeds and now - host.joined_at >= host.join_pause_s:
            host.joined_at = now
            host.join_pause_s = next_pause_s(self.config, host.join_pause_s, alone=host.lonely)
            core.join(now, host.seeds)
        self._collect(host)

    def _sample(self) -> None:
        self.at(self.now + self.sample_s, self._sample)
        for host in self.hosts:
            if host.core is not None and host.frozen_until <= self.now:
                view = self.view(host)
                for checker in self._checkers:
                    checker.sampled(self, host, view)
