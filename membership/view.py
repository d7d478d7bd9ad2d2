"""What one peer believes about the cluster at one moment: plain values, safe to hand out.

Two peers' views may differ for a second or two; nothing is built on their being equal. What must
not happen twice is decided by the ledger or the orchestrator, never by a view.
"""

from __future__ import annotations

from dataclasses import dataclass

from gossip.load import Load
from gossip.rows import Row, State


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One row of the table.

    Args:
        age_s: How long ago it was last heard, first-hand by anybody, as far as is known here. Of
            the dead and the departed: how long ago that was declared.
        load: The last known one; None before the first.
        load_age_s: How old that is.
        silent: This peer itself should hear it and does not. Not an accusation yet.
    """

    row: Row
    age_s: float
    load: Load | None
    load_age_s: float
    silent: bool
    own: bool

    @property
    def uid(self) -> str:
        """16 hexadecimal digits, as everywhere outside of gossip."""
        return f"{self.row.uid:016x}"

    @property
    def state(self) -> State:
        """ALIVE, SUSPECT, DEAD or LEFT."""
        return self.row.state


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The cluster as this peer sees it.

    Args:
        members: By uid; this peer, and the dead and departed that are still remembered, too.
        leader: The uid of the member proposed to lead; None while there is none or it has not been
            stable for long enough.
        candidate: Who would lead, were it stable and this side large enough.
        quorate: At least half of the recent membership is alive in this view.
        deaf: This peer hears hardly anybody whom it should hear, and believes it is its own fault.
        deaf_s: For how long that has been so; 0 while it is not.
        suspected: Others have called this peer suspect or dead, and have not yet taken it back.
        mass_event: So many fell silent at once that deaths are held back.
    """

    own_uid: int
    members: tuple[Member, ...]
    leader: int | None
    candidate: int | None
    quorate: bool
    deaf: bool
    suspected: bool
    mass_event: bool
    deaf_s: float = 0.0

    @property
    def leads(self) -> bool:
        """This peer is the one proposed to lead."""
        return self.leader == self.own_uid
