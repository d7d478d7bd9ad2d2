"""Makes the exchanges and queues that must be there, or finds that they are.

Declaring what is there already, with the same arguments, changes nothing; so each peer does it when
it connects for the first time, and nobody has to. What differs cannot be changed by the broker, and
using it all the same would break promises silently: a person must decide.

When a line is opened again that would be some seventy questions each, for two lines of every peer,
to a broker that has just come back. So only the exchange is looked for that is declared last. What
somebody has deleted since is missed by whoever needs it, and then all of it is declared again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import trio
from pika.exceptions import ChannelClosedByBroker

from pipeline.errors import QueueIncompatible
from pipeline.queues.rabbitmq.channel import Channel, ConsumerCancelled
from pipeline.queues.rabbitmq.complaints import ACCESS_REFUSED
from pipeline.queues.rabbitmq.line import Line
from pipeline.queues.rabbitmq.topology import Binding, Exchange, Part, Queue, Topology

VERSION_MIN = (3, 10)
"""Since then quorum queues let messages expire, and dead-letter at least once."""

NOT_FOUND = 404
PRECONDITION_FAILED = 406

ANSWER_S = 5.0
"""How long the broker may take over each part. Not over all: a slow one gets there in the end. One
that stands still (it lost its majority, its disk does not answer) goes on sending heartbeats."""


class Declaration:
    """What a peer knows of it, for all of its lines.

    Both methods raise:
        QueueIncompatible: It cannot be used as it is; the message says what to do.
        trio.TooSlowError: The broker does not answer.
    """

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._is_declared = False

    async def ensure(self, line: Line, *, lost: Exception | None = None) -> None:
        """Do what a line needs that was just opened.

        Args:
            lost: Why the one before it was lost.
        """
        if lost is not None and _tells_of_a_gap(lost):
            self._is_declared = False
        _check_version(line.version)
        if not (self._is_declared and await self._is_marked(line)):
            await self.declare(line)

    async def declare(self, line: Line) -> None:
        """Declare everything, on a channel of its own: the broker closes it when a part differs."""
        with trio.fail_after(ANSWER_S) as waiting:
            async with line.throw_away_channel() as channel:
                for part in self._topology.parts():
                    waiting.deadline = trio.current_time() + ANSWER_S
                    with _explained(part, line, self._topology.prefix):
                        await _declare(channel, part)
        self._is_declared = True

    async def _is_marked(self, line: Line) -> bool:
        """Whether somebody has declared all of it on this broker."""
        try:
            with trio.fail_after(ANSWER_S):
                async with line.throw_away_channel() as channel:
                    await channel.find_exchange(self._topology.marker.name)
        except ChannelClosedByBroker as error:
            if error.reply_code == NOT_FOUND:
                return False
            raise
        return True


def _tells_of_a_gap(lost: Exception) -> bool:
    """Whether a line was lost because an exchange or a queue is missing."""
    if isinstance(lost, ChannelClosedByBroker):
        return bool(lost.reply_code == NOT_FOUND)
    return isinstance(lost, ConsumerCancelled)


async def _declare(channel: Channel, part: Part) -> None:
    match part:
        case Exchange():
            await channel.declare_exchange(part.name, part.kind, part.arguments)
        case Queue():
            await channel.declare_queue(part.name, part.arguments)
        case Binding():
            await channel.bind(part.source, part.target, part.key, to_exchange=part.to_exchange)


def _check_version(version: str) -> None:
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers is not None and (int(numbers[1]), int(numbers[2])) < VERSION_MIN:
        raise QueueIncompatible(
            f"the broker is RabbitMQ {version}, and {'.'.join(map(str, VERSION_MIN))} is the oldest"
            " that can be used: upgrade it"
        )


@contextmanager
def _explained(part: Part, line: Line, prefix: str) -> Iterator[None]:
    kind = "queue" if isinstance(part, Queue) else "exchange"
    name = part.source if isinstance(part, Binding) else part.name
    ours = prefix.replace(".", r"\.")
    try:
        yield
    except ChannelClosedByBroker as error:
        if error.reply_code == ACCESS_REFUSED:
            raise QueueIncompatible(
                f"the broker's user may not declare the {kind} {name}: give it the permissions"
                f" configure, write and read, each as '^{ours}\\.'"
            ) from error
        if error.reply_code == PRECONDITION_FAILED:
            remove = (
                f"once it is empty (rabbitmqctl delete_queue {name})"
                if kind == "queue"
                else "on the management page, no message is in it"
            )
            raise QueueIncompatible(
                f"the {kind} {name} on {line.endpoint} is not as it must be: "
                f"{difference(error.reply_text)}. Delete it {remove}, and the peers make it anew;"
                f" or give this cluster a queue.prefix of its own"
            ) from error
        raise


_DIFFERENT = re.compile(
    r"inequivalent arg '(?P<name>[^']*)' for .*:"
    r" received (?P<ours>.*) but current is (?P<theirs>.*)"
)
_VALUE = re.compile(r"(?:the value )?'(?P<value>[^']*)'(?: of type .*)?")


def difference(text: str) -> str:
    """Say what differs, from what the broker said; in its own words where they are unknown."""
    found = _DIFFERENT.search(text)
    if found is None:
        return text
    theirs, ours = (_value(found[group]) for group in ("theirs", "ours"))
    return f"its {found['name']} is {theirs} and must be {ours}"


def _value(text: str) -> str:
    if text == "none":
        return "not set"
    found = _VALUE.fullmatch(text)
    return found["value"] if found is not None else text
