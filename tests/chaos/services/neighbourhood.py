"""Peers in this process that hear each other by gossip, on loopback, with the usual timing.

So who is asked whether somebody still answers is the very thing that a peer asks
(`peer.neighbours`), in the middle of whatever is done to the services.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from gossip.addresses import HostPort
from gossip.rows import Body
from gossip.sealing import PlainEnvelope
from membership.config import lan
from membership.service import MembershipService
from pipeline.ports import Transcoder
from pipeline.tasks import Held
from tests.chaos.services.gates import Gates
from tests.chaos.services.peer import Running, Settings, working
from tests.chaos.services.rig import until

KNOWN_WITHIN_S = 20.0


class Neighbourhood:
    """Everybody joins by asking who came before. Who leaves says good-bye."""

    def __init__(self) -> None:
        self._services: list[MembershipService] = []
        self.asked: list[Held] = []
        """The claims whose holders were asked whether they still answer."""

    @asynccontextmanager
    async def working(
        self, settings: Settings, transcoder: Transcoder, *, gates: Gates | None = None
    ) -> AsyncIterator[Running]:
        """Let a peer work among the others until the context ends."""
        async with self._member(settings) as service:

            async def answers(held: Held) -> bool:
                self.asked.append(held)
                return await service.answers(int(held.peer_uid, 16), held.epoch)

            async with working(settings, transcoder, gates=gates, answers=answers) as peer:
                yield peer

    @asynccontextmanager
    async def _member(self, settings: Settings) -> AsyncIterator[MembershipService]:
        uid, epoch = int(settings.holder.peer_uid, 16), settings.epoch
        service = MembershipService(
            lan(),
            listen=("127.0.0.1", 0),
            uid=uid,
            epoch=epoch,
            body=Body(address=("", 0), name=settings.name),
            envelope=PlainEnvelope(label="chaos", uid=uid, epoch=epoch, salt=uid),
            seeds=[HostPort(*known.address) for known in self._services],
            rng=random.Random(settings.number),
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(service.run)
            self._services.append(service)
            try:
                await until(self._all_know_all, KNOWN_WITHIN_S)
                yield service
            finally:
                self._services.remove(service)
                with trio.CancelScope(shield=True):
                    await service.leave()
                nursery.cancel_scope.cancel()

    async def _all_know_all(self) -> bool:
        everybody = {service.own.uid for service in self._services}
        return all(
            {member.row.uid for member in service.view().members} >= everybody
            for service in self._services
        )
