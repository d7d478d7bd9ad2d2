"""Whether a peer's life still answers: what gossip tells peers, as one question over TCP.

The real thing is `peer.neighbours`, which has tests of its own. Here it must only be true to what
is done to a peer: who is killed or frozen does not answer, nor does one whose line is cut, since
questions come by a relay like everything else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

import trio

from pipeline.tasks import Held

WITHIN_S = 1.0
LINE_BYTES_MAX = 64


async def answer_pings(
    epoch: int, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED
) -> None:
    """Say which life this is to whoever asks, until cancelled; starts with the port."""

    async def say(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):
            await stream.send_all(f"{epoch}\n".encode())

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    task_status.started(listener.socket.getsockname()[1])
    await trio.serve_listeners(say, [listener])


def asking(ports: Mapping[str, int]) -> Callable[[Held], Awaitable[bool]]:
    """Build `Answers` from where each peer answers, by its uid."""

    async def answers(held: Held) -> bool:
        port = ports.get(held.peer_uid)
        with trio.move_on_after(WITHIN_S), suppress(OSError, trio.BrokenResourceError):
            if port is not None:
                async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                    said = await stream.receive_some(LINE_BYTES_MAX)
                return said.strip() == str(held.epoch).encode()
        return False

    return answers
