"""All seventeen events of the system, in one list, and the envelope that each travels in.

The folders raise them; only this module knows them all. Their names are those of spec/features.md,
to the letter: people search logs for them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import count
from typing import Any, Final

import msgspec

from gossip import events as gossip_events
from membership import events as membership_events
from peer.identity import Identity
from pipeline import events as pipeline_events
from pipeline.events import Record, Recordable, Stamp
from scaling import events as scaling_events

EVENT_TYPES: Final[tuple[type[Recordable], ...]] = (
    pipeline_events.TaskReceived,
    pipeline_events.TaskDetailsRetrieved,
    pipeline_events.VideoFilePulled,
    pipeline_events.VideoTranscoded,
    pipeline_events.TranscodedVideoUploaded,
    scaling_events.WorkerNodeScaledUp,
    scaling_events.WorkerNodeScaledDown,
    pipeline_events.ContainerErrorRetry,
    pipeline_events.ContainerErrorEscalation,
    membership_events.ContainerFailureDetected,
    gossip_events.HeartbeatReceived,
    gossip_events.GossipTableMerged,
    scaling_events.ContainerScaledUp,
    scaling_events.ContainerScaledDown,
    scaling_events.ResourceUtilizationThresholdReached,
    pipeline_events.WorkloadProcessingStarted,
    pipeline_events.WorkloadProcessingFinished,
)
"""In the order in which spec/features.md describes them."""

EVENT_KINDS: Final = frozenset(event.kind for event in EVENT_TYPES)


_BY_KIND: Final = {event.kind: event for event in EVENT_TYPES}


def decode_event(kind: str, data: Mapping[str, Any]) -> Recordable:
    """Make an event again from its name and its fields as JSON values.

    Raises:
        KeyError: No event has this name.
        ValueError: These are not its fields.
    """
    return msgspec.convert(data, _BY_KIND[kind])


class EventStamper:
    """A `Recorder`: stamps events with this peer's identity, the next number, and the wall time.

    Numbers start at 1 with every epoch, so (peer, epoch, number) never names two facts. Threads may
    call it: taking the next of a `count` is one step of the interpreter.

    Attributes:
        stamped: How many, by their kinds, for people to look at. The ledger may have refused some,
            and one may be missing where two threads counted at the same moment.
    """

    def __init__(self, identity: Identity, *, container: str, node: str) -> None:
        self._identity = identity
        self._container = container
        self._node = node
        self._sequence = count(1)
        self.stamped: Counter[str] = Counter()

    def go_on_as(self, identity: Identity) -> None:
        """Stamp with another identity from now on; the numbers go on, so none is used twice."""
        self._identity = identity

    def __call__(self, event: Recordable) -> Record:
        """Put an event in its envelope."""
        assert event.kind in EVENT_KINDS, f"{event.kind} is not one of the seventeen"
        self.stamped[event.kind] += 1
        identity = self._identity
        stamp = Stamp(
            peer_uid=identity.uid,
            epoch=identity.epoch,
            sequence=next(self._sequence),
            container=self._container,
            node=self._node,
            at=datetime.now(UTC),
        )
        return Record(stamp=stamp, event=event)
