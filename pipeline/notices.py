"""What administrators must hear of: the outbox in the ledger, and the way out of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """An escalation of which administrators must hear.

    Args:
        id: Of its event.
        data: Of its ContainerErrorEscalation, the story in it; of one that an older version wrote,
            what it knew.
    """

    id: int
    task_id: UUID
    title: str
    escalated_at: datetime
    data: dict[str, Any]
    source: str = ""


class Notices(Protocol):
    """**Protocol**: the ledger as whoever tells the administrators sees it: an outbox.

    A notice is written with its escalation, in one transaction, and taken by one peer at a time.
    Raises `LedgerUnavailable`.
    """

    async def take_notices(
        self, limit: int, for_s: float, *, pause_s: float = 0.0
    ) -> Sequence[Notice]:
        """Take the oldest that nobody has; not told within `for_s`, they are anybody's again.

        Args:
            pause_s: Take none while another peer has some, or while any were told less than that
                ago: so the whole cluster, and not each peer, speaks once in a while.
        """
        ...

    async def notices_told(self, ids: Sequence[int]) -> None:
        """The administrators have been told of these; they are never given out again."""
        ...


class Channel(Protocol):
    """**Protocol**: a way to the administrators. Raises `NotSent`.

    A message that was sent has reached at least one of its addresses. One of unknown outcome may
    arrive twice.
    """

    async def send(self, title: str, body: str) -> None:
        """Send a message: a title of one line, and a body of plain text."""
        ...
