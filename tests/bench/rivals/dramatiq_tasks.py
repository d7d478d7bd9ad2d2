"""dramatiq's no-op, run by the interpreter of an environment of its own, which has no Grapevine.

    python dramatiq_tasks.py work             a worker with one process and one thread
    python dramatiq_tasks.py send N PAUSE_S   hand in N tasks; print when each was begun to be sent

From the environment: BROKER (a URL), QUEUE (a name), CONFIRM (1: confirmed publishes, else
dramatiq's default), DONE (a file that gets a line for each task that ran).
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import dramatiq  # type: ignore[import-not-found]  # only in that environment
from dramatiq.brokers.rabbitmq import (  # type: ignore[import-not-found]  # as above
    RabbitmqBroker,
)

DONE = os.open(os.environ["DONE"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

broker: Any = RabbitmqBroker(
    url=os.environ["BROKER"], confirm_delivery=os.environ["CONFIRM"] == "1"
)
dramatiq.set_broker(broker)


@dramatiq.actor(queue_name=os.environ["QUEUE"])  # type: ignore[untyped-decorator]  # as above
def no_op(number: int) -> None:
    """Say when it ran."""
    os.write(DONE, f"{number} {time.time()}\n".encode())


def send(count: int, pause_s: float) -> list[float]:
    """Hand tasks in, one after the other; `pause_s` from each begin to the next."""
    began = []
    for number in range(count):
        began.append(time.time())
        no_op.send(number)
        time.sleep(max(0.0, began[-1] + pause_s - time.time()))
    return began


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["work"]:
            program = str(Path(sys.executable).with_name("dramatiq"))
            one = ["--processes", "1", "--threads", "1"]
            os.execv(program, [program, "dramatiq_tasks", *one])
        case ["send", count, pause_s]:
            sys.stdout.write(json.dumps(send(int(count), float(pause_s))))
