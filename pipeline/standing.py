"""What the cluster has said of a peer's life, and what follows for work: values.

A *life* is one start of a peer. The ledger keeps one standing for each that somebody spoke of, and
believes what was said last *by the peer's own count*: whoever contradicts its suspicion or its
death does so with a higher incarnation, so calls may be repeated, may come late, from anybody and
in any order, and the ledger ends up with the same. (The order in which calls arrive says nothing:
the one that was held up for longest would win.)

Whatever is said holds for `SUSPENSION_S` and is said again while it is true. So a suspicion whose
authors are gone ends by itself, and nobody is kept from work for good by a mistake.
"""

from __future__ import annotations

from dataclasses import dataclass

SUSPENSION_S = 10.0
"""For how long a life that was called suspect or dead takes no work, by the database's clock."""

ENDED = 2**32
"""The incarnation of a life that the peer's next one has followed: above any that is counted, so
nothing that was said of that life can come after it."""

EXPLAINED = ENDED + 1
"""The incarnation of a life that has ended and of which is known why: above `ENDED`. The silence of
a peer is noticed before its cause, often; who knows the cause is heard all the same, and once."""

PEER_DIED = "peer_died"
"""The code of the failure that a part is left with when its holder is buried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """One start of a peer, as far as it has been heard.

    Args:
        peer_uid: 16 hexadecimal digits.
        epoch: Rises with every start of that peer.
        incarnation: Rises within the epoch with whatever the peer says of itself; a refutation has
            a higher one than what it refutes. `ENDED` when the peer itself, in its next life, says
            that this one is over, and cannot know how far it had counted; `EXPLAINED` when it is
            also known why.
    """

    peer_uid: str
    epoch: int
    incarnation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """The end of a life.

    Args:
        how: What happened, as the rest of a sentence that begins with the peer: `died (silent for
            6.2 s to 6 observers)`.
        silent_s: For how long nothing had been heard of it. A part waits that much less for its
            next attempt: this time has passed since whatever went wrong.
        out_of_memory: It was ended for lack of memory.
        memory_bytes: How much its container might use, if that is known.
    """

    life: Life
    how: str
    silent_s: float
    out_of_memory: bool = False
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspended:
    """The cluster takes this peer for suspect or dead, so it gets no work and judges nobody.

    Args:
        left_s: For how long, unless it is said again; above 0.
    """

    left_s: float
    why: str
