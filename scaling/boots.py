"""Which ordered nodes came, which did not, and when the next may be ordered.

A provider that has run out of machines answers every order the same way, and each costs money until
it is given up. So every failure doubles the pause before the next order, up to an hour; one node
that joins ends it.
"""

from __future__ import annotations

from dataclasses import dataclass

from scaling.snapshot import NodeState, Snapshot

PAUSE_FIRST_S = 60.0
PAUSE_MAX_S = 3600.0

ARRIVED = (NodeState.READY, NodeState.STANDBY, NodeState.CORDONED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Boots:
    """What is known of ordered nodes.

    Args:
        waited_for: Names that were booting in time at the last look, sorted.
        given_up: Names that are booting, but for too long, sorted.
        failures: Looks in a row that found some lost; those that were ordered together count once.
        pause_until_s: Before then nothing is ordered.
    """

    waited_for: tuple[str, ...] = ()
    given_up: tuple[str, ...] = ()
    failures: int = 0
    pause_until_s: float = 0.0

    def looking(self, snapshot: Snapshot, timeout_s: float) -> Boots:
        """Return what is known after another look."""
        states = {node.name: node.state for node in snapshot.nodes}
        booting = {
            node.name: node.since_s > timeout_s
            for node in snapshot.nodes
            if node.state is NodeState.BOOTING
        }
        arrived = any(states.get(name) in ARRIVED for name in self.waited_for)
        lost = [
            name for name in self.waited_for if booting.get(name, states.get(name) not in ARRIVED)
        ]
        failures = (0 if arrived else self.failures) + bool(lost)
        if lost:
            pause_s = min(PAUSE_MAX_S, PAUSE_FIRST_S * 2.0 ** min(failures - 1, 16))
            pause_until_s = snapshot.now_s + pause_s
        else:
            pause_until_s = 0.0 if arrived else self.pause_until_s
        return Boots(
            waited_for=tuple(sorted(name for name, late in booting.items() if not late)),
            given_up=tuple(sorted(name for name, late in booting.items() if late)),
            failures=failures,
            pause_until_s=pause_until_s,
        )
