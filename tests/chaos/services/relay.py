"""A line that can be cut without anybody being told, as a pulled cable is: no byte, no reset; and
one that loses answers.

A TCP relay on loopback. While it is cut it passes nothing on, not even that one side has closed;
connections made meanwhile get no answer. When it is whole again, what was sent arrives, as it does
when TCP repeats it. A packet filter that drops would do the same, with the kernel's help and root's
rights; killing the connection would not: a reset is an answer, and the easy case.

A line that loses answers lets certain requests through, and when the server answers, both sides
find the connection closed instead. So the server has done what it was asked, and nobody was told.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import trio

BLOCK_BYTES = 64 * 1024


class Relay:
    """Listens on 127.0.0.1 and passes on to a port there, once it runs.

    Args:
        upstream: The port; may change, and nobody listens at 0.
    """

    def __init__(self, upstream: int) -> None:
        self.upstream = upstream
        self._whole = trio.Event()
        self._whole.set()
        self._listener: trio.SocketListener | None = None
        self._request: re.Pattern[bytes] | None = None
        self._every = 1
        self._requests = 0
        self._may_lose = 0
        self.lost = 0
        """How many answers got lost."""

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._listener is not None, "the relay does not run yet"
        port: int = self._listener.socket.getsockname()[1]
        return port

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Pass on until cancelled."""
        (self._listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        task_status.started()
        await trio.serve_listeners(self._serve, [self._listener])

    def cut(self) -> None:
        """From now on there is silence."""
        if self._whole.is_set():
            self._whole = trio.Event()

    def mend(self) -> None:
        """Let everything through again, also what was sent meanwhile."""
        self._whole.set()

    def lose_answers(self, request: re.Pattern[bytes], *, every: int, at_most: int) -> None:
        """Lose the answer to each so many requests, on whatever connection, that have this in them.

        One that comes in two blocks of bytes, with the cut just there, is taken for another one.

        Args:
            at_most: How many answers get lost; all others arrive.
        """
        self._request, self._every, self._may_lose = request, every, at_most

    async def _serve(self, client: trio.SocketStream) -> None:
        await self._whole.wait()
        is_doomed = False

        def note_request(data: bytes) -> bool:
            nonlocal is_doomed
            is_doomed = is_doomed or self._is_unlucky(data)
            return True

        def may_answer(_: bytes) -> bool:
            self.lost += is_doomed
            return not is_doomed

        # Either side may be gone by then; the other one is told by the end of its stream.
        with suppress(OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            async with client, await trio.open_tcp_stream("127.0.0.1", self.upstream) as server:
                async with trio.open_nursery() as both:
                    pump = partial(self._pump, both=both.cancel_scope)
                    both.start_soon(pump, client, server, note_request)
                    both.start_soon(pump, server, client, may_answer)

    def _is_unlucky(self, data: bytes) -> bool:
        if self._request is None or self._request.search(data) is None:
            return False
        self._requests += 1
        if self._requests % self._every or not self._may_lose:
            return False
        self._may_lose -= 1
        return True

    async def _pump(
        self,
        source: trio.SocketStream,
        target: trio.SocketStream,
        may_pass: Callable[[bytes], bool],
        *,
        both: trio.CancelScope,
    ) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while data := await source.receive_some(BLOCK_BYTES):
                await self._whole.wait()
                if not may_pass(data):
                    break
                await target.send_all(data)
        await self._whole.wait()
        both.cancel()
