"""Who should lead: a proposal from one peer's view, never an authority.

The best candidate is the one with the lowest priority, then the oldest epoch, then the lowest uid,
so that a newcomer never displaces a leader. It is proposed when it has been the best for a while,
and only where at least half of the recent membership is alive. It need not wait where the leader
itself has said that it leads no more: a doubt about who is there is what the wait is for, and there
is none. (An orderly change of leader took 11 s with the wait, and takes one.) Two sides of a cut
may disagree for a while; what a leader does is made safe elsewhere, by compare-and-set in the
orchestrator or the ledger.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf

from gossip.load import Flag, Load
from gossip.rows import Row, State
from membership.config import MembershipConfig
from membership.health import WindowMaximum

UNFIT = Flag.DRAINING | Flag.DEAF | Flag.FLAPPING


LoadOf = Callable[[int], Load | None]
"""Returns the last known load of a member."""


def best(rows: Iterable[Row], load_of: LoadOf, lag_max_s: float) -> int | None:
    """Return the uid of the best candidate; None without any.

    Whoever lags is passed over only for somebody who does not: where all machines are short of
    processor time, a slow leader that asks for more of them is better than none.

    The rows alone say in which order to look, and mostly the first one is fit: so of thousands of
    loads, hardly any has to be read.
    """
    order = sorted(
        (row.body.priority, row.epoch, row.uid)
        for row in rows
        if row.body.eligible and row.state is State.ALIVE
    )
    late: int | None = None
    for _, _, uid in order:
        load = load_of(uid)
        if load is None:
            return uid
        if load.flags & UNFIT:
            continue
        if load.lag_s <= lag_max_s:
            return uid
        late = uid if late is None else late
    return late


def has_resigned(row: Row, load: Load | None) -> bool:
    """Whether a member says itself that it leads no more: it goes, is about to, or cannot."""
    if row.state is State.LEFT or not row.body.eligible:
        return True
    return load is not None and Flag.DRAINING in load.flags


class Election:
    """Watches the best candidate until it is stable."""

    def __init__(self, config: MembershipConfig, now: float) -> None:
        self._config = config
        self._living = WindowMaximum(config.leader_memory_s)
        self._since = now
        self.candidate: int | None = None
        self.leader: int | None = None
        self.quorate = False

    def departed(self) -> None:
        """A member said good-bye: it was there, and is not missed."""
        self._living.lower(1)

    def observe(
        self, now: float, candidate: int | None, living: int, *, resigned: bool = False
    ) -> bool:
        """Look at the view once; return whether the proposal has changed.

        Args:
            living: Members that are ALIVE, this one included.
            resigned: The leader that was proposed last has itself said that it leads no more.
        """
        self._living.add(now, living)
        self.quorate = 2 * living >= self._living.maximum(now)
        if candidate != self.candidate:
            self.candidate = candidate
            self._since = -inf if resigned and self.leader is not None else now
        stable = now - self._since >= self._config.leader_stable_s
        before = self.leader
        if not self.quorate or candidate is None:
            self.leader = None
        elif stable:
            self.leader = candidate
        elif self.leader != candidate:
            self.leader = None
        return self.leader != before
