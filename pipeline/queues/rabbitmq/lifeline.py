"""A line that is opened when it is needed, and again after it was lost, to any of several hosts.

A call that needs it tries; there is no task that reconnects by itself, so an outage is over with
the first call that works, and a peer that does nothing leaves the broker alone. After a failure the
next try, whoever makes it, waits: twice as long each time, by chance a little less, so that all
peers of a broker that comes back do not come back at once.
"""

from __future__ import annotations

import random
from collections import deque
from contextlib import suppress

import trio

from pipeline.errors import PipelineError, QueueUnavailable
from pipeline.queues.rabbitmq.answer import Answer
from pipeline.queues.rabbitmq.complaints import FAILURES, GivenUp, explain
from pipeline.queues.rabbitmq.config import RabbitConfig
from pipeline.queues.rabbitmq.declaring import Declaration
from pipeline.queues.rabbitmq.line import Line

PAUSE_MIN_S = 0.05
PAUSE_MAX_S = 2.0


class Lifeline:
    """Gives the line, and opens it where there is none.

    Args:
        declaration: Of what a line is for; the peer's other line has the same.
        purpose: What it is for, as the broker's own tools show it.
        prefetch: How many messages each consumer on its channel may hold.
        confirm: Messages are published on it.
    """

    def __init__(
        self,
        config: RabbitConfig,
        declaration: Declaration,
        rng: random.Random,
        *,
        purpose: str,
        prefetch: int | None = None,
        confirm: bool = False,
    ) -> None:
        self._config = config
        self._declaration = declaration
        self._rng = rng
        self._purpose = purpose
        self._prefetch = prefetch
        self._confirm = confirm
        self._line: Line | None = None
        self._opening: Answer[Line] | None = None
        self._tries = trio.CancelScope()
        # The host whose turn it is comes first. Each peer begins with another one.
        hosts = list(config.broker.endpoints)
        rng.shuffle(hosts)
        self._hosts = deque(hosts)
        self._failures = 0

    async def line(self) -> Line:
        """The line, which was not lost when this returns.

        A call that is cancelled does not stop the opening: the next one finds it further on.

        Raises:
            QueueUnavailable: No host could be reached.
            QueueIncompatible: What is there cannot be used.
        """
        while self._line is None or self._line.lost is not None:
            if self._opening is None:
                self._opening = Answer()
                self._tries = trio.CancelScope()
                trio.lowlevel.spawn_system_task(self._open, self._opening)
            await self._opening.wait()
        return self._line

    async def aclose(self) -> None:
        """End it; a later call opens another one."""
        self._tries.cancel()
        if self._opening is not None:
            with suppress(PipelineError):
                await self._opening.wait()
        line, self._line = self._line, None
        if line is not None:
            await line.aclose()

    async def _open(self, opening: Answer[Line]) -> None:
        try:
            with self._tries:
                if self._failures:
                    await trio.sleep(self._pause_s())
                self._line = await self._try_hosts()
                opening.give(self._line)
        except Exception as error:  # for those who wait
            opening.fail(error)
        finally:
            opening.fail(QueueUnavailable("the queue was closed", definite=True))
            self._opening = None

    def _pause_s(self) -> float:
        longest_s = min(PAUSE_MAX_S, PAUSE_MIN_S * 2.0 ** min(self._failures - 1, 20))
        return longest_s * self._rng.uniform(0.5, 1.0)

    async def _try_hosts(self) -> Line:
        """Try each host once, beginning with the one that was well when last used."""
        complaints = []
        lost = self._line.lost if self._line is not None else None
        for _ in range(len(self._hosts)):
            line = Line(self._config, self._hosts[0], self._purpose)
            try:
                await line.open(prefetch=self._prefetch, confirm=self._confirm)
                await self._declaration.ensure(line, lost=lost)
            except FAILURES as error:
                complaints.append(f"{line.endpoint}: {explain(line.lost or error)}")
                line.lose(error)
                self._hosts.rotate(-1)
            except BaseException:
                line.lose(GivenUp("it was not waited for"))
                raise
            else:
                self._failures = 0
                return line
        self._failures += 1
        raise QueueUnavailable(
            f"RabbitMQ cannot be reached ({'; '.join(complaints)})", definite=True
        )
