"""Whom to ask to be let in, and how often.

Every seed is looked up again at every try, each on its own, and asked as soon as its name is
known: one dead name server does not hold up the other names, and a name that stands for other
peers than a minute ago is no trouble. While this peer knows nobody it tries every second at first,
and also asks whom it knew before its restart. Afterwards it goes on, seldom: two halves of a
cluster that have forgotten each other meet through the seeds.

Nobody answers a peer with the wrong key, or in the wrong cluster: to whoever cannot seal, silence
is all there is. So a peer that is let in by nobody says so in its log, with what it has seen.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping, Sequence

import trio

from gossip.addresses import HostPort, format_address
from gossip.resolving import LOOKUP_TIMEOUT_S, Resolve
from gossip.rows import Address
from membership.config import MembershipConfig

logger = logging.getLogger(__name__)

ASKED_MAX = 3
"""Of each name, and of those known from before, at one try: one answer is enough."""

BACKOFF = 1.3
PATIENCE_TRIES = 5
"""So many tries in vain are told; the seeds of a whole cluster that starts are not up at once."""

REMINDER_TRIES = 12
"""And again after so many more: about once a minute."""


def next_pause_s(config: MembershipConfig, pause_s: float, *, alone: bool) -> float:
    """Return how long to wait after the next try, when it was so long before this one.

    Who has found somebody becomes patient by and by, not at once: on a lossy network it may have
    found another newcomer only, and all other requests were lost. Members are not asked anyway.
    """
    longest_s = config.join_retry_max_s if alone else config.seed_interval_s
    return min(pause_s * BACKOFF, longest_s)


class Joining:
    """Asks seeds, for as long as it runs.

    Args:
        seeds: As configured.
        known: Addresses from before the restart.
        ask: Sends the requests.
        living: The addresses of the living members other than this peer, which need not be asked.
        reaches: This peer's socket speaks that address's family.
        usable: This peer can send there, and it is not this peer itself.
        dropped: What was received and thrown away, by reason: the best hint there is.
    """

    def __init__(
        self,
        config: MembershipConfig,
        *,
        seeds: Sequence[HostPort],
        known: Sequence[Address],
        ask: Callable[[Sequence[Address]], None],
        living: Callable[[], frozenset[Address]],
        reaches: Callable[[Address], bool],
        usable: Callable[[Address], bool],
        dropped: Callable[[], Mapping[str, int]],
        resolve: Resolve,
        rng: random.Random,
    ) -> None:
        self._config = config
        self._seeds = tuple(seeds)
        self._known = tuple(known)
        self._ask = ask
        self._living = living
        self._reaches = reaches
        self._usable = usable
        self._dropped = dropped
        self._resolve = resolve
        self._rng = rng
        self._asked: dict[Address, None] = {}
        self._failures: dict[HostPort, str] = {}

    async def run(self) -> None:
        """Ask, until cancelled."""
        tries, pause_s, alone = 0, self._config.join_retry_s, True
        while True:
            was_alone, alone = alone, not self._living()
            if alone and not was_alone:
                pause_s = self._config.join_retry_s
            await self._ask_all(alone)
            await trio.sleep(pause_s * self._rng.uniform(0.9, 1.1))
            if alone and not self._living():
                tries += 1
                if tries >= PATIENCE_TRIES and (tries - PATIENCE_TRIES) % REMINDER_TRIES == 0:
                    self._complain(tries)
            else:
                tries = 0
            pause_s = next_pause_s(self._config, pause_s, alone=alone)

    async def _ask_all(self, alone: bool) -> None:
        self._asked.clear()
        if alone:
            self._ask_some(self._known)
        async with trio.open_nursery() as nursery:
            for seed in self._seeds:
                nursery.start_soon(self._ask_seed, seed)

    async def _ask_seed(self, seed: HostPort) -> None:
        addresses, failure = await self._resolve(seed, LOOKUP_TIMEOUT_S)
        failure = failure or self._unreachable(seed, addresses)
        if failure:
            self._failures[seed] = failure
        else:
            self._failures.pop(seed, None)
            self._ask_some(addresses)

    def _unreachable(self, seed: HostPort, addresses: Sequence[Address]) -> str:
        """Why none of a seed's addresses can be sent to, as a sentence; "" when one can."""
        if not addresses or any(map(self._reaches, addresses)):
            return ""
        theirs, ours = ("IPv6", "IPv4") if ":" in addresses[0][0] else ("IPv4", "IPv6")
        return (
            f"{seed}: has {theirs} only, and this peer listens on {ours} only; "
            "let it listen on [::], which speaks both"
        )

    def _ask_some(self, addresses: Sequence[Address]) -> None:
        living = self._living()
        candidates = [
            address
            for address in addresses
            if address not in living and address not in self._asked and self._usable(address)
        ]
        chosen = self._rng.sample(candidates, min(ASKED_MAX, len(candidates)))
        if chosen:
            self._asked.update(dict.fromkeys(chosen))
            self._ask(chosen)

    def _complain(self, tries: int) -> None:
        """Say that nobody answers, unless there was nobody to ask: the first peer is no fault."""
        if not self._asked and not self._failures:
            return
        logger.warning(
            "no peer lets this one in; check that the seeds' addresses are right, that they run,"
            " that key and cluster name are the same there, and that no firewall stops UDP",
            extra={
                "action": "join",
                "tries": tries,
                "asked": [format_address(address) for address in self._asked],
                "unresolved": list(self._failures.values()),
                "dropped": dict(self._dropped()),
            },
        )
