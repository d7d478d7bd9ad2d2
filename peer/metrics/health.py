"""Whether a peer lives, and whether it would take work: two questions with different consequences.

Who does not live is killed and started again, so only what a restart mends may count: a loop that
does not turn, a control socket that does not answer. That a service is away, that somebody has
drained this peer, or that it has quarantined itself, no restart mends; it is not ready then, and
goes on with what it has. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from peer.status import DEPENDENCIES, QUARANTINE, Working

SILENT_S_MAX: Final = 10.0
"""The gossip loop turns several times a second. Of a machine that stood still, or has far too much
to do, it may not for some seconds; the other peers give this one up after six to eight."""

REASONS: Final = (
    "starting",
    "drained",
    "parked",
    "quarantined",
    *DEPENDENCIES,
    "cluster",
)
"""The codes of why a peer would take no work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """The signs of life.

    Args:
        silent_s: How long ago the gossip loop turned last; None before it has.
        control: Why the control socket does not answer; empty when it does.
    """

    silent_s: float | None
    control: str

    @property
    def alive(self) -> bool:
        """Nothing is wrong that a restart would mend."""
        return self.silent_s is not None and self.silent_s <= SILENT_S_MAX and not self.control


def why_not_ready(
    worker: Working | None, awaited: str | None, *, draining: bool, parked: bool
) -> dict[str, str]:
    """Why it would take no work, as sentences by `REASONS`; empty when it would.

    Args:
        awaited: Why the ledger could not be used when it was last tried, before there is a worker.
    """
    why: dict[str, str] = {}
    if draining:
        why["drained"] = "a person or a signal has told it to take no more work"
    if parked:
        why["parked"] = "the scaler is about to stop it, and has told it to take no more work"
    if worker is None:
        code = "ledger" if awaited else "starting"
        return why | {code: awaited or "it has not connected to its ledger yet"}
    if worker.quarantined is not None:
        why["quarantined"] = worker.quarantined
    # On probation it does take work, one part at a time.
    return why | {name: said for name, said in worker.trouble.items() if name != QUARANTINE}
