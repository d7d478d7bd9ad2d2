"""What a new machine needs to join the Swarm: a token and somebody to give it to.

The worker's token only: it lets a machine run what managers tell it, and nothing else. The
providers ask for it each time they make a machine, so that one that was rotated is the new one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from scaling.ports import ProviderFailed


@dataclass(frozen=True, slots=True, kw_only=True)
class Join:
    """How to become a worker.

    Args:
        token: The Swarm's worker token. It is in no argument list, log or message of ours.
        addresses: Managers as `host:port`, in the order in which to try them.
    """

    token: str = field(repr=False)
    addresses: tuple[str, ...]


JoinSource = Callable[[], Awaitable[Join]]
"""Asks for it; raises `OrchestratorUnavailable` or `ProviderFailed` when nobody knows."""


def join_source(
    token: str | None, addresses: tuple[str, ...], ask: JoinSource | None
) -> JoinSource:
    """Take from the settings what they say, and ask the orchestrator for the rest, each time.

    Args:
        ask: None where the orchestrator has nothing to join, like that of local processes.
    """

    async def join() -> Join:
        if token is not None and addresses:
            return Join(token=token, addresses=addresses)
        if ask is None:
            raise ProviderFailed(
                "nobody can say how a new machine joins: set scaling.provider.join_token and "
                "scaling.provider.join_addresses"
            )
        asked = await ask()
        return Join(
            token=asked.token if token is None else token, addresses=addresses or asked.addresses
        )

    return join


def redacted(text: str, token: str) -> str:
    """The text without the token: what other programs print may have it."""
    return text.replace(token, "(the join token)") if token else text
