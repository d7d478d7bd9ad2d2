"""The exchanges and queues that must be there, as pure values.

    client ──> work ─── no priority in its key ───────────────┬─> dead ─┬─> dead
                 │                                            │         └─> dead.newest
    peer ────> line ─┬─> high                                 │
                 ^   ├─> normal ──┐                           │
                 │   └─> low      └─ delivered 21 times, or set aside
         expired │
    peer ────> delay.… ─> delay.…     `delays` has the idea

    peer ────> bell ──> bell          for those who wait (`receiver`)

There is a queue for each priority, <prefix>.high, .normal and .low; `pipeline.priority` says why.

Clients have an exchange of their own. What they publish with a key that is no priority would be
lost in silence, unless they want it back (`mandatory`); its alternate exchange takes it to the dead
ones. Peers do want theirs back, and make anew what was missing; an alternate exchange would keep
that from them, as what it takes passes for routed.

Every queue is a quorum queue, replicated and on disk, and dead-letters at least once: the broker
itself keeps a message until its next queue has confirmed it. That is why a full one must reject
what is published (the broker demands it), though none has a limit.

Whoever publishes rings the bell besides, when the message is due; it is heard within a second, or
by nobody. It has an exchange of its own: were it bound to that of the work, a message that reached
only the bell would pass for routed; and to publish to a queue without an exchange takes a right on
`amq.default`. All names begin with the prefix, so a user needs no rights beyond it.

All of it is named in a digest, and an exchange with that in its name is declared last: where it is
found, the rest was there (`declaring`). Those that earlier versions left cost nothing.

`dead.newest` holds one message, a copy of the last that went to `dead`: so that a person can be
told why, without reading through all of them, which only the consumer of a queue can do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256

from pipeline.queues.rabbitmq.delays import DELAYS_MS, find_way
from pipeline.queues.rabbitmq.delays import name as length_name
from pipeline.tasks import Priority

DELIVERIES_MAX = 20
"""How often a message may come back because its holder died or lost its line; then it is dead."""

REASON = "x-grapevine-reason"
"""Why a message was set aside."""
REDELIVERED = "x-grapevine-redelivered"
"""Somebody had it and did not put it back, before it was published again on its behalf."""
LEFT_MS = "x-grapevine-left-ms"
"""How long it must still wait when it arrives."""

BELL_MS = 1000
"""How long the bell rings for nobody. Who waits looks as often by himself."""
BELLS_MAX = 100

Arguments = Mapping[str, str | int]


@dataclass(frozen=True, slots=True)
class Exchange:
    """Durable, as everything here; and its arguments."""

    name: str
    kind: str
    arguments: Arguments = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Queue:
    """A quorum queue and its arguments."""

    name: str
    arguments: Arguments = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Binding:
    """From an exchange to a queue, or to another exchange."""

    source: str
    target: str
    key: str = ""
    to_exchange: bool = False


Part = Exchange | Queue | Binding


@dataclass(frozen=True, slots=True)
class Address:
    """Where a message is published to; `headers` must go with it.

    Args:
        due_in_s: When it will be in line, in seconds; None where it will not.
    """

    exchange: str
    key: str
    headers: Mapping[str, str | int | bool] = field(default_factory=dict)
    due_in_s: float | None = None


class Topology:
    """What one cluster of peers needs, under its prefix."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.work = f"{prefix}.work"
        self.line = f"{prefix}.line"
        self.bell = f"{prefix}.bell"
        self.dead = f"{prefix}.dead"
        self.newest_dead = f"{prefix}.dead.newest"
        named = "\n".join(map(repr, self._needed()))
        self.marker = Exchange(f"{prefix}.all.{sha256(named.encode()).hexdigest()[:12]}", "fanout")

    def queue_of(self, priority: Priority) -> str:
        """Where messages of that priority wait to be received."""
        return f"{self.prefix}.{priority.value}"

    def address(self, priority: Priority, delay_s: float) -> Address:
        """Where to publish so that it waits for that long, in seconds, and then in line."""
        way = find_way(delay_s, priority)
        if way is None:
            return Address(self.line, priority.value, due_in_s=0.0)
        headers = {LEFT_MS: way.left_ms} if way.left_ms else {}
        return Address(self._delay(way.first_ms), way.key, headers, due_in_s=way.total_ms / 1000)

    def unroutable(self, exchange: str, key: str) -> str:
        """Why a message is dead that was published so, and was not set aside; empty if unknown."""
        if exchange != self.work:
            return ""
        return f"unroutable: routing key {key!r}; expected {', '.join(Priority)}"

    @property
    def unseen(self) -> tuple[str, ...]:
        """Exchanges that may be missed by clients or the broker alone, so that no peer is told."""
        return (self.work, self.line, self.dead)

    @property
    def delayed(self) -> tuple[str, ...]:
        """The queues in which messages wait for their time."""
        return tuple(map(self._delay, DELAYS_MS))

    def parts(self) -> Iterator[Part]:
        """Yield what must be there, in the order in which it can be declared.

        The line comes first: all the rest takes some seconds on a slow broker, and clients that
        publish need nothing of it. Peers take no message before everything is there.
        """
        yield from self._needed()
        yield self.marker

    @property
    def queues(self) -> tuple[Queue, ...]:
        """Those that must be there."""
        return tuple(part for part in self._needed() if isinstance(part, Queue))

    def _needed(self) -> Iterator[Part]:
        yield from self._line()
        yield from self._dead_letters()
        yield from self._bell()
        yield from self._delays()

    def _line(self) -> Iterator[Part]:
        yield Exchange(self.line, "topic")
        moved_on = self._moved_on_to(self.dead)
        for priority in Priority:
            name = self.queue_of(priority)
            yield Queue(name, {**moved_on, "x-delivery-limit": DELIVERIES_MAX})
            # The key is the priority alone, or stands at the end of a way.
            yield Binding(self.line, name, f"#.{priority.value}")
        yield Exchange(self.work, "direct", {"alternate-exchange": self.dead})
        for priority in Priority:
            yield Binding(self.work, self.line, priority.value, to_exchange=True)

    def _dead_letters(self) -> Iterator[Part]:
        yield Exchange(self.dead, "fanout")
        yield Queue(self.dead)
        yield Queue(self.newest_dead, {"x-max-length": 1, "x-overflow": "drop-head"})
        for name in (self.dead, self.newest_dead):
            yield Binding(self.dead, name)

    def _bell(self) -> Iterator[Part]:
        brief: Arguments = {"x-message-ttl": BELL_MS, "x-max-length": BELLS_MAX}
        yield Exchange(self.bell, "fanout")
        yield Queue(self.bell, {**brief, "x-overflow": "drop-head"})
        yield Binding(self.bell, self.bell)

    def _delays(self) -> Iterator[Part]:
        for name in self.delayed:
            yield Exchange(name, "topic")
        for position, (length, following) in enumerate(self._levels()):
            name, passed = self._delay(length), ["*"] * position
            yield Queue(name, {**self._moved_on_to(following), "x-message-ttl": length})
            yield Binding(name, name, ".".join([*passed, "1", "#"]))
            yield Binding(name, following, ".".join([*passed, "0", "#"]), to_exchange=True)

    def _delay(self, length_ms: int) -> str:
        """The name of a length's exchange, and of the queue behind it."""
        return f"{self.prefix}.delay.{length_name(length_ms)}"

    def _levels(self) -> Iterator[tuple[int, str]]:
        """Each length, and the exchange that comes after it."""
        following = [*self.delayed[1:], self.line]
        yield from zip(DELAYS_MS, following, strict=True)

    def _moved_on_to(self, exchange: str) -> Arguments:
        return {
            "x-dead-letter-exchange": exchange,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        }
