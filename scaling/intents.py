"""Who is about to change which machine: claims on names, so that no two leaders make one twice.

A machine costs money from the moment it is ordered, and its provider keeps no lock for us. So a
name is claimed first, where the orchestrator's own truth is, and only who holds the claim creates
or destroys the machine of that name. A leader that dies leaves its claims behind; the next one
adopts them, and whatever it finds under them it can finish or undo.

All of it is compare-and-set on what was listed. A claim that could be released by its name alone
would be released twice: by a slow leader, after another has taken it over, and then two create.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """One claim, as it was listed.

    Args:
        name: Of the node.
        term: Of the leader that holds it.
        version: Opaque; another one after every change, also when a name is claimed anew.
    """

    name: str
    term: int
    version: str


class Intents(Protocol):
    """**Protocol**: at most one claim for each name. All raise `OrchestratorUnavailable`.

    A call that was cancelled, or that raised, has done nothing or exactly what was asked; listing
    tells which.
    """

    async def list(self) -> Sequence[Intent]:
        """All claims, whoever holds them."""
        ...

    async def claim(self, name: str, *, term: int) -> bool:
        """Claim a name that nobody holds. False when somebody does, be it this leader."""
        ...

    async def adopt(self, intent: Intent, *, term: int) -> bool:
        """Take a claim over. False when it is not as it was listed any more."""
        ...

    async def release(self, intent: Intent) -> bool:
        """Give a claim up. False when it is not as it was listed any more; it then stays."""
        ...
