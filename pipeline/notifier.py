"""The notifier: tells administrators of the tasks that wait for them.

The ledger keeps an outbox: a notice is written with its escalation, in one transaction, so none is
ever missing. Any peer takes what is there, for a while; says it; and only then ticks it off. One
that dies in between, or whose message goes nowhere, leaves it to whoever looks next. So everything
is told at least once; twice only when a peer dies, or the ledger goes away, between the two.

Nobody reads two hundred mails about one broken disk. The first escalation is told at once, and then
one message in a while tells of all that came meanwhile. That pause is the outbox's, not the peer's:
in a cluster every peer would otherwise have a first one of its own.
"""

from __future__ import annotations

import logging
import random

import trio

from pipeline.errors import LedgerUnavailable, NotSent
from pipeline.notices import Channel, Notices
from pipeline.notify.config import NotifyConfig
from pipeline.notify.message import compose

log = logging.getLogger(__name__)

TAKE_MAX = 500
"""How many notices one message tells of, most of them as a number. More wait for the next one."""

HOLD_S = 120.0
"""For how long they are this peer's: longer than a channel takes, and the answer to the ledger."""

LOOK_S = 5.0
"""How often to look into the outbox."""

RETRY_MAX_S = 600.0
"""The longest pause after messages that went nowhere; the first is until the notices are free."""

TICK_OFF_S = 1.0
"""How soon the ledger is told again what it did not hear."""


class Notifier:
    """Looks into the outbox, and speaks.

    Args:
        hold_s: For how long notices are kept from the other peers.
        look_s: How often to look.
    """

    def __init__(
        self,
        *,
        notices: Notices,
        channel: Channel,
        config: NotifyConfig,
        rng: random.Random,
        hold_s: float = HOLD_S,
        look_s: float = LOOK_S,
    ) -> None:
        self._notices = notices
        self._channel = channel
        self._config = config
        self._rng = rng
        self._hold_s = hold_s
        self._look_s = look_s

    async def run(self) -> None:
        """Tell what is to be told, until cancelled."""
        failures = 0
        while True:
            pause_s = self._look_s
            try:
                if await self.tell():
                    failures = 0
            except LedgerUnavailable as error:
                log.debug("outbox away", extra={"action": "tell", "error": str(error)})
            except NotSent as error:
                pause_s = min(self._hold_s * 2.0**failures, max(RETRY_MAX_S, self._hold_s))
                failures += 1
                log.error(  # noqa: TRY400 - the sentence says it; a traceback would say less
                    "administrators cannot be told",
                    extra={"action": "tell", "why": str(error), "again_in_s": round(pause_s)},
                )
            await trio.sleep(pause_s * self._rng.uniform(1.0, 1.2))

    async def tell(self) -> int:
        """Look once, and tell what is there; return of how many escalations.

        Raises:
            LedgerUnavailable: Nobody knows what is there.
            NotSent: Nobody could be told. The notices are anybody's again when the hold is over.
        """
        notices = await self._notices.take_notices(
            TAKE_MAX, self._hold_s, pause_s=self._config.interval_s
        )
        if not notices:
            return 0
        message = compose(notices)
        await self._channel.send(message.title, message.body)
        log.info("administrators told", extra={"action": "tell", "tasks": len(notices)})
        await self._tick_off([notice.id for notice in notices])
        return len(notices)

    async def _tick_off(self, ids: list[int]) -> None:
        """See to it that these are not told again, also when the ledger is away just now."""
        while True:
            try:
                return await self._notices.notices_told(ids)
            except LedgerUnavailable as error:
                log.debug("outbox away", extra={"action": "tell", "error": str(error)})
            await trio.sleep(TICK_OFF_S * self._rng.uniform(0.5, 1.0))
