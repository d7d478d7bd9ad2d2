"""What is looked at of a peer that is watched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from peer.assembly import Parts
from peer.config import Config
from peer.events import EventStamper
from peer.gossip_log import GossipLog
from peer.metrics.health import why_not_ready
from peer.neighbours import Neighbours
from peer.restraint import Restraint
from pipeline.ports import Depth
from pipeline.tasks import Holder


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A peer, as far as its metrics and its health go.

    Args:
        neighbours: They were started.
        holder: Under which identity it works now.
        parts: None while it waits for its ledger.
        awaited: Why it does.
        depth: Of the queue, when it was last looked at; None where that failed.
    """

    config: Config
    neighbours: Neighbours
    log: GossipLog
    stamper: EventStamper
    restraint: Restraint
    holder: Callable[[], Holder]
    parts: Callable[[], Parts | None]
    awaited: Callable[[], str | None]
    depth: Callable[[], Depth | None]

    def why_not_ready(self) -> dict[str, str]:
        """Why it would take no work now, as sentences by their codes."""
        parts = self.parts()
        return why_not_ready(
            parts.worker if parts is not None else None,
            self.awaited(),
            draining=self.restraint.draining,
            parked=self.restraint.parked,
        )
