"""Celery's no-op, run by the interpreter of an environment of its own, which has no Grapevine.

    python celery_tasks.py work             a worker with one child process
    python celery_tasks.py send N PAUSE_S   hand in N tasks; print when each was begun to be sent

From the environment: BROKER (a URL), QUEUE (a name), QUORUM (1: a quorum queue and confirmed
publishes, else Celery's defaults), RESULTS (a database's URL where it records results, or nothing),
DONE (a file that gets a line for each task that is over).
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from celery import Celery  # type: ignore[import-not-found]  # only in that environment
from celery.signals import task_postrun  # type: ignore[import-not-found]  # as above

QUORUM = os.environ["QUORUM"] == "1"
RESULTS = os.environ["RESULTS"] or None
DONE = os.open(os.environ["DONE"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

app: Any = Celery("no_op", broker=os.environ["BROKER"], backend=RESULTS)
app.conf.update(
    task_default_queue=os.environ["QUEUE"],
    task_default_queue_type="quorum" if QUORUM else "classic",
    broker_transport_options={"confirm_publish": QUORUM},
    task_acks_late=True,
    task_ignore_result=RESULTS is None,
    task_track_started=RESULTS is not None,
    worker_prefetch_multiplier=4,
    worker_concurrency=1,
    broker_connection_retry_on_startup=True,
)


@app.task(name="no_op")  # type: ignore[untyped-decorator]  # as above
def no_op(number: int) -> None:
    """Do nothing."""


@task_postrun.connect  # type: ignore[untyped-decorator]  # as above
def note_done(args: list[int], **_: object) -> None:
    """Say when it was over: its result is recorded by then, where results are."""
    os.write(DONE, f"{args[0]} {time.time()}\n".encode())


def send(count: int, pause_s: float) -> list[float]:
    """Hand tasks in, one after the other; `pause_s` from each begin to the next."""
    began = []
    for number in range(count):
        began.append(time.time())
        no_op.delay(number)
        time.sleep(max(0.0, began[-1] + pause_s - time.time()))
    return began


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["work"]:
            quiet = ["--loglevel=ERROR", "--without-mingle", "--without-gossip"]
            name = f"--hostname={os.environ['QUEUE']}@bench"
            app.worker_main(["worker", "--pool=prefork", name, *quiet])
        case ["send", count, pause_s]:
            sys.stdout.write(json.dumps(send(int(count), float(pause_s))))
