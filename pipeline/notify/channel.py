"""A way to administrators by apprise, which knows mail, chats, web hooks and 250 other services.

apprise blocks, so it works in a thread of its own, and its own bound ends that; it takes a while to
import and some megabytes, so that happens with the first message and not with the peer's start. Its
words are not let into our log as they are: at some levels they hold the addresses, which are
secrets. What it says about a failure comes with its answer; we pass that on, without whatever the
address consists of.

Each address is asked by itself. One that took the message is enough, because a message that is sent
again for the sake of the others would come to this one again and again.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import unquote

import trio

from pipeline.errors import NotSent

if TYPE_CHECKING:
    from apprise import Apprise

log = logging.getLogger(__name__)

SECRET_LENGTH_MIN = 3
"""Shorter pieces of an address are in every sentence, and no secret."""

UNKNOWN = (
    "is not one that apprise understands; look its service up at https://appriseit.com/services"
)


class AppriseChannel:
    """Implements `Channel`.

    Args:
        urls: As apprise takes them. Never logged.
        timeout_s: For each message; to all addresses at once.
    """

    def __init__(self, urls: Sequence[str], *, timeout_s: float = 30.0) -> None:
        self._urls = tuple(urls)
        self._timeout_s = timeout_s
        self._services: Sequence[Apprise | None] = ()
        self._loading = trio.Lock()
        # Only a thread that hangs keeps its place for longer than it should; a few may.
        self._limiter = trio.CapacityLimiter(4 * max(1, len(self._urls)))

    async def send(self, title: str, body: str) -> None:
        """See `Channel`."""
        services = await self._load()
        failures: dict[int, str] = {}

        async def send_by(number: int, service: Apprise | None) -> None:
            why = await self._send(number, service, title, body)
            if why is not None:
                failures[number] = f"{self._described(number)} {why}"

        async with trio.open_nursery() as nursery:
            for number, service in enumerate(services):
                nursery.start_soon(send_by, number, service)
        complaints = [failures[number] for number in sorted(failures)]
        if len(complaints) == len(services):
            raise NotSent("; ".join(complaints) or "no address is configured: set notify.urls")
        for complaint in complaints:
            log.warning("an administrator was not told", extra={"action": "tell", "why": complaint})

    async def check(self) -> Sequence[str]:
        """Say which addresses apprise cannot make sense of; nothing is sent."""
        return [
            f"notify.urls: {self._described(number)} {UNKNOWN}"
            for number, service in enumerate(await self._load())
            if service is None
        ]

    async def _load(self) -> Sequence[Apprise | None]:
        """One service for each address, or nothing where apprise takes it for none."""
        async with self._loading:
            if not self._services:
                self._services = await trio.to_thread.run_sync(
                    lambda: [_service(url) for url in self._urls], limiter=self._limiter
                )
            return self._services

    async def _send(
        self, number: int, service: Apprise | None, title: str, body: str
    ) -> str | None:
        """Send to one address; return what went wrong."""
        if service is None:
            return UNKNOWN
        with trio.move_on_after(2 * self._timeout_s):  # apprise keeps its own bound, but for bugs
            why = await trio.to_thread.run_sync(
                partial(_notify, service, title, body, self._timeout_s),
                limiter=self._limiter,
                abandon_on_cancel=True,
            )
            return None if why is None else _without_secrets(why, self._urls[number])
        return f"did not answer in {2 * self._timeout_s:g} s"

    def _described(self, number: int) -> str:
        """An address for people who must not see it: which one, and of what kind."""
        return f"address {number + 1} ({self._urls[number].partition('://')[0]})"


def _service(url: str) -> Apprise | None:
    """apprise with one address. Runs in a thread."""
    from apprise import Apprise, AppriseAsset  # noqa: PLC0415 - see the module's docstring

    _keep_secrets_out_of_logs()
    service = Apprise(asset=AppriseAsset(async_mode=False, storage_mode="memory"))
    # A message that is too long for a service is sent in pieces, and not refused.
    split = "" if "overflow=" in url else f"{'&' if '?' in url else '?'}overflow=split"
    return service if service.add(url + split) else None


def _notify(service: Apprise, title: str, body: str, timeout_s: float) -> str | None:
    """Send by one service; return what went wrong. Runs in a thread."""
    from apprise import NotifyFormat, NotifyType  # noqa: PLC0415 - see the module's docstring

    try:
        answer = service.notify(
            title=title,
            body=body,
            body_format=NotifyFormat.TEXT,
            notify_type=NotifyType.FAILURE,
            timeout=timeout_s,
        )
    except Exception as error:  # 250 plugins: whatever they raise means that it was not sent
        return f"failed: {type(error).__name__}: {error}"
    if answer:
        return None
    said = [entry.message for entry in answer.logs()]
    return f"did not take it: {said[-1] if said else 'no reason is known'}"


def _keep_secrets_out_of_logs() -> None:
    """What apprise has to say comes with its answers; a repeat of this changes nothing.

    urllib3 has a line for each request with its path, and a web hook's path is its password.
    """
    theirs = logging.getLogger("apprise")
    if theirs.propagate:
        theirs.propagate = False
        theirs.addHandler(logging.NullHandler())
    logging.getLogger("urllib3.connectionpool").addFilter(_no_requests)


def _no_requests(record: logging.LogRecord) -> bool:
    return record.levelno > logging.DEBUG


def _without_secrets(text: str, url: str) -> str:
    """What apprise says, without any piece of the address."""
    pieces = re.split(r"[/:@?&=,;]+", url.partition("://")[2])
    for piece in sorted({*pieces, *map(unquote, pieces)}, key=len, reverse=True):
        if len(piece) >= SECRET_LENGTH_MIN:
            text = text.replace(piece, "…")
    return text
