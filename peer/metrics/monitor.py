"""A peer's pages for those who watch it: `/metrics`, `/healthz` and `/readyz`.

Nothing secret is on them, and nothing can be changed by them; all the same they belong on a network
of one's own, for they say what this peer does and what its services answer.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import trio

from gossip.addresses import parse_address
from peer.config import METRICS_PORT
from peer.control import SendItem
from peer.metrics.health import Life
from peer.metrics.watched import Watched
from peer.paths import socket_address

if TYPE_CHECKING:
    from peer.metrics.listener import Listener, Page

ANSWERS_WITHIN_S = 5.0
"""For the control socket; those who ask for health usually wait somewhat longer."""


class Monitor:
    """Watches one peer, and tells those who ask.

    What it needs of libraries is loaded only where somebody watches.
    """

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._listener: Listener | None = None

    @property
    def address(self) -> str:
        """Where its pages are, as `host:port`; empty where they are not."""
        return self._listener.address if self._listener is not None else ""

    async def run(self) -> None:
        """Serve the pages where the settings say so, until cancelled."""
        if not (listen := self._watched.config.peer.metrics_listen):
            return
        from peer.metrics.listener import Listener  # noqa: PLC0415 - see above

        address = parse_address(listen, default_port=METRICS_PORT, any_port=True)
        pages = {"/metrics": self._metrics, "/healthz": self._healthz, "/readyz": self._readyz}
        self._listener = Listener(address, pages)
        await self._listener.run()

    async def command(self, _arguments: Mapping[str, Any], _: SendItem) -> str:
        """What the control socket answers to `metrics`: the page, also where none is served."""
        return (await self._metrics()).content.decode()

    async def _metrics(self) -> Page:
        from peer.metrics.exposition import CONTENT_TYPE, exposition  # noqa: PLC0415
        from peer.metrics.listener import Page  # noqa: PLC0415

        await trio.lowlevel.checkpoint()
        return Page(200, CONTENT_TYPE, exposition(self._watched))

    async def _healthz(self) -> Page:
        turned_at = self._watched.neighbours.lag.turned_at
        life = Life(
            silent_s=None if turned_at is None else time.monotonic() - turned_at,
            control=await self._ask_control(),
        )
        said = {
            "alive": life.alive,
            "loop_silent_s": life.silent_s,
            "control": life.control or "ok",
        }
        return _json(200 if life.alive else 503, said)

    async def _readyz(self) -> Page:
        await trio.lowlevel.checkpoint()
        why = self._watched.why_not_ready()
        return _json(503 if why else 200, {"ready": not why, "why_not": why})

    async def _ask_control(self) -> str:
        """Ask the control socket as `peerctl` does; return why it does not answer, or nothing."""
        config = self._watched.config
        path = config.places.peer(config.peer.name).control_socket
        try:
            with trio.fail_after(ANSWERS_WITHIN_S), socket_address(path) as address:
                async with await trio.open_unix_socket(address) as stream:
                    await stream.send_all(b'{"command": "status"}\n')
                    if not await stream.receive_some():
                        return "the control socket hangs up"
        except (OSError, trio.BrokenResourceError) as error:
            return f"the control socket cannot be used: {error}"
        except trio.TooSlowError:
            return f"the control socket has not answered within {ANSWERS_WITHIN_S:g} s"
        return ""


def _json(status: int, said: Mapping[str, Any]) -> Page:
    from peer.metrics.listener import JSON, Page  # noqa: PLC0415 - see above

    return Page(status, JSON, json.dumps(said).encode() + b"\n")
