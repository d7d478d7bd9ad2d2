"""Which address a peer gives to the others.

Whoever configures one is believed. Otherwise it is where the peer listens; and of a peer that
listens everywhere, the address that its datagrams to the seeds come from, which is the one that
the others can answer to however many networks the container is in. What the others report to have
seen corrects that, once; they may sit in several networks and see several addresses, and a peer
that took each of them would tell the cluster of a new one at every join. When the machine loses
the address, it all begins again.

Names may stand for nothing while a cluster starts: Docker names a container only once its health
check has passed. Until then the address is that of the default route, which in a container leads
out through a bridge of its own machine, where no other peer could answer. So while no seed could be
looked up, and nobody has told better, it is looked for again.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import trio

from gossip.addresses import HostPort, format_address, is_loopback, is_wildcard
from gossip.errors import BadAddress
from gossip.resolving import (
    LOOKUP_TIMEOUT_S,
    SOMEWHERE,
    Resolve,
    is_own,
    source_address_towards,
)
from gossip.rows import Address
from gossip.udp import UdpEndpoint

logger = logging.getLogger(__name__)

SOMEWHERE_IPV6 = ("2001:db8::1", 9)
"""As `SOMEWHERE`, for a machine that has no IPv4."""


class Advertising:
    """Finds the address, and corrects it.

    Args:
        endpoint: The open socket.
        advertise: As configured; a port 0 in it stands for the one that is listened on.
    """

    def __init__(
        self,
        endpoint: UdpEndpoint,
        advertise: HostPort | None,
        seeds: Sequence[HostPort],
        resolve: Resolve,
    ) -> None:
        self._endpoint = endpoint
        self._advertise = advertise
        self._seeds = tuple(seeds)
        self._resolve = resolve
        self._settled = False
        self._aimed = False
        self._had = ""

    @property
    def certain(self) -> bool:
        """Nothing better is to come: it was said, seen by others, or found towards a seed."""
        return not self._guesses or not self._seeds or self._settled or self._aimed

    async def find(self) -> Address:
        """Return the address to begin with, before anybody was heard.

        Raises:
            BadAddress: The configured one stands for nothing.
        """
        self._settled = not self._guesses
        host, port = self._endpoint.address
        if self._advertise is not None:
            return await self._configured(self._advertise, port)
        if not is_wildcard(host):
            return self._endpoint.address
        # IPv4 first: a peer that listens to both is reached over it by those who have only one.
        seeds = sorted(await self._resolved_seeds(), key=lambda seed: ":" in seed[0])
        self._aimed = False
        for towards in [*seeds, SOMEWHERE, SOMEWHERE_IPV6]:
            if self._endpoint.reaches(towards) and (source := source_address_towards(towards)):
                self._aimed = towards in seeds
                return (source, port)
        return ("127.0.0.1", port)

    def correct(self, own: Address, observed: Address) -> Address | None:
        """Learn from how another peer sees this one.

        Returns:
            The address to take instead of the own one; None to keep it.
        """
        if not self._guesses:
            return None
        address = corrected(own, observed, settled=self._settled)
        self._settled = True
        if address is not None:
            _log("others see this peer elsewhere than it thought", own, address)
        return address

    async def replaced(self, own: Address) -> Address | None:
        """Look whether the machine still has the address in use.

        Returns:
            The one to take instead; None to keep it. One that the machine never had, because
            others see this peer through a translation, is kept.
        """
        if not self._guesses:
            return None
        # Made, perhaps, before there was a network, or before the seeds had names.
        guess = is_loopback(own[0]) or not self.certain
        has = is_own(own[0])
        if has and not guess:
            self._had = own[0]
            return None
        if own[0] != self._had and not guess:
            return None
        address = await self.find()
        if address == own or is_loopback(address[0]):
            # No network at all: the one that comes back may be the same.
            return None
        if has:
            _log("the others are in another network than this peer thought", own, address)
        else:
            _log("this machine has lost the address that it was reached at", own, address)
        return address

    @property
    def _guesses(self) -> bool:
        """Nobody has said which address it is."""
        return self._advertise is None and is_wildcard(self._endpoint.address[0])

    async def _configured(self, advertise: HostPort, port: int) -> Address:
        wanted = advertise._replace(port=advertise.port or port)
        addresses, failure = await self._resolve(wanted, LOOKUP_TIMEOUT_S)
        if not addresses:
            raise BadAddress(f"cannot advertise {wanted}: {failure}; advertise a numeric address")
        return addresses[0]

    async def _resolved_seeds(self) -> list[Address]:
        """Look up all seeds at once, and return what they stand for in the order of the seeds."""
        found: dict[HostPort, tuple[Address, ...]] = {}

        async def look_up(seed: HostPort) -> None:
            found[seed] = (await self._resolve(seed, LOOKUP_TIMEOUT_S)).addresses

        async with trio.open_nursery() as nursery:
            for seed in self._seeds:
                nursery.start_soon(look_up, seed)
        return [address for seed in self._seeds for address in found[seed]]


def corrected(own: Address, observed: Address, *, settled: bool) -> Address | None:
    """Decide whether to take the address that another peer has seen.

    Args:
        own: The one in use, not configured by anybody.
        observed: From where another peer saw datagrams come.
        settled: An observation has confirmed or replaced the own one before.

    Returns:
        The address to take; None to keep the own one.
    """
    if observed[0] == own[0]:
        return None
    if observed[1] != own[1]:
        # A translated port: a mapping for that one observer, which others cannot use.
        return None
    if is_loopback(observed[0]):
        # Told by a neighbour on this machine, who sees what others could not reach.
        return None
    if settled and not is_loopback(own[0]):
        return None
    return observed


def _log(what: str, before: Address, after: Address) -> None:
    addresses = {"before": format_address(before), "after": format_address(after)}
    logger.info(what, extra={"action": "advertise", **addresses})
