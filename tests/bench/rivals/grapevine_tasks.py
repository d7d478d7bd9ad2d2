"""Grapevine's no-op: a real peer in which only the transcoder is another one, and who hands in.

    python -m tests.bench.rivals.grapevine_tasks work …          a peer, with the peer's own flags
    python -m tests.bench.rivals.grapevine_tasks send N PAUSE_S  hand in N tasks by message

Each message brings the whole task along, as those of clients without database access do: one
publish, as a rival's. Broker and source come from the environment: BROKER, SOURCE.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from unittest.mock import patch
from uuid import uuid4

import trio

from peer.program import main
from pipeline.media.config import TranscodeConfig
from pipeline.media.tools import Tools
from pipeline.ports import Inspection, Order, Transcoded
from pipeline.queues.rabbitmq.config import RabbitConfig
from pipeline.queues.rabbitmq.queue import RabbitQueue
from pipeline.tasks import Progress


class NoOp:
    """Implements `Transcoder`: makes nothing."""

    def __init__(self, _tools: Tools, _config: TranscodeConfig) -> None: ...

    async def inspect(self, _order: Order) -> Inspection:
        return Inspection(video={}, renditions=())

    async def transcode(
        self, _order: Order, _inspection: Inspection, _report: Callable[[Progress], None]
    ) -> Transcoded:
        return Transcoded(products=(), warnings=(), cpu_seconds=0.0)


async def send(count: int, pause_s: float) -> dict[str, float]:
    """Hand tasks in, one after the other; `pause_s` from each begin to the next."""
    queue = RabbitQueue(RabbitConfig(url=os.environ["BROKER"]), name="bench")
    await queue.prepare()
    began = {}
    for _ in range(count):
        task_id = str(uuid4())
        task = {"source": os.environ["SOURCE"], "ladder": "web"}
        began[task_id] = now = time.time()
        await queue.publish(json.dumps({"v": 1, "task_id": task_id, "task": task}).encode())
        await trio.sleep(max(0.0, now + pause_s - time.time()))
    await queue.aclose()
    return began


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["send", count, pause_s]:
            sys.stdout.write(json.dumps(trio.run(send, int(count), float(pause_s))))
        case ["work", *flags]:
            with patch("peer.assembly.FfmpegTranscoder", NoOp):
                main(flags)
