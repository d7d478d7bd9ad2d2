"""How many heartbeats must be missed, and how many must miss them: arithmetic, and who says so.

One silent link means little. An observer raises an alert after `misses` heartbeats in a row, and
nothing follows until a quorum of observers has. `misses` is chosen from the loss that the link has
shown, so that chance alone would make such a quorum about once in 1e10 rounds: five on links that
lose up to 30 % with eight observers, and up to twenty where only one or two are there to agree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from membership.config import MembershipConfig

FALSE_QUORUM = 1e-10
"""How often, in each round, losses alone may make a quorum."""


@lru_cache(maxsize=1024)
def misses(observers: int, quorum: int, loss_percent: int, least: int, most: int) -> int:
    """Return how many heartbeats in a row an observer must miss to raise an alert.

    Solves C(observers, quorum) * loss ** (misses * quorum) = FALSE_QUORUM, that is, the chance that
    some `quorum` of the observers all miss so many.
    """
    loss = min(max(loss_percent, 1), 99) / 100
    ways = math.comb(observers, quorum)
    needed = math.log(ways / FALSE_QUORUM) / (quorum * math.log(1 / loss))
    return min(max(math.ceil(needed), least), most)


def threshold(counted: int, observers: int, members: int, share: float) -> int:
    """Return how many observers must find a member silent.

    The share is taken of those whose word can be had: some may have died together with the subject,
    and the rest must be able to go on. But at least half of all its observers must agree, or three,
    however few are left: with three members or more, nobody decides alone.

    Args:
        counted: Observers whose silence would be known, this one included.
        observers: All that the member should have.
        members: Everybody in the cluster.
    """
    if members <= 2:
        return 1
    floor = min(3, max(2, math.ceil(observers / 2)))
    return max(math.ceil(share * counted), floor)


@dataclass(frozen=True, slots=True)
class Accusation:
    """One observer's last alert about a subject."""

    epoch: int
    heard_at: float
    silent_since: float


class Accusations:
    """Who has found whom silent, as far as this peer was told."""

    def __init__(self, config: MembershipConfig) -> None:
        self._valid_s = config.alert_valid_s
        self._by_subject: dict[int, dict[int, Accusation]] = {}

    def add(self, now: float, subject: int, epoch: int, observer: int, silent_s: float) -> None:
        """Take in an alert."""
        said = Accusation(epoch, now, now - silent_s)
        self._by_subject.setdefault(subject, {})[observer] = said

    def withdraw(self, subject: int, observer: int) -> None:
        """An observer says that it hears the subject."""
        self._by_subject.get(subject, {}).pop(observer, None)

    def against(self, now: float, subject: int, epoch: int) -> dict[int, float]:
        """Return the observers whose alerts still hold, and since when it is silent to them."""
        return {
            observer: said.silent_since
            for observer, said in self._by_subject.get(subject, {}).items()
            if said.epoch == epoch and now - said.heard_at <= self._valid_s
        }

    def forget(self, now: float) -> None:
        """Remove what no longer holds."""
        for subject in list(self._by_subject):
            said = self._by_subject[subject]
            for observer in [o for o, a in said.items() if now - a.heard_at > self._valid_s]:
                del said[observer]
            if not said:
                del self._by_subject[subject]
