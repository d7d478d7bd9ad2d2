"""A task that does nothing, from handing it in to its end: ours, Celery's and dramatiq's.

All on one broker, in turns, in one run. Judged is ours against those who get the same promises
from the broker: a publish that is confirmed, a message that is acknowledged when the work is over.
The others are told of, too: their defaults confirm nothing.
What they record differs, and is in their times:

    ours        The whole task comes by a confirmed message on a quorum queue. The peer writes the
                task's row and its part with a claim that has lease and token, then moves the claim
                through its steps to its end. The seven events are written in the transactions of
                these changes: two commits, with fsync. It pulls a source of some bytes, and makes
                no output.
    Celery      Runs the body, and records nothing: who asks later whether a task was done, when, or
                by whom, is not told.
    Celery, recorded
                With its own result backend in the same PostgreSQL: one row, written at the start
                and at the end. No lease, no token, no history.
    dramatiq    Runs the body, and records nothing. It has no quorum queues.

Two numbers each: the median time of a task that comes alone, and the time per task of a heap of
them. The rivals are installed into an environment of their own, which is thrown away.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg

from tests.bench.one_peer import bench_directory
from tests.bench.rivals.arms import Arm, Ours, Rival
from tests.bench.rows import Row, print_rows
from tests.servers.postgres import PostgresServer
from tests.servers.rabbitmq import RabbitServer

RIVALS = (
    "celery==5.7.0",
    "dramatiq[rabbitmq]==2.2.1",
    "sqlalchemy==2.0.54",
    "psycopg2-binary==2.9.13",
)
ROUNDS = 3
ALONE = 100
ALONE_PAUSE_S = 0.1
HEAP = 334
"""Three rounds make a thousand."""
WARM_UP = 20

OURS = "ours"
CELERY, DRAMATIQ = "Celery, quorum, confirmed", "dramatiq, classic, confirmed"
RECORDED = f"{CELERY}, recorded"
DURABLE = {"fsync": "on", "full_page_writes": "on", "shared_buffers": "128MB"}


def measure() -> list[Row]:
    """Let the arms take turns; A B C, then C B A, so that what drifts is on all sides."""
    alone: dict[str, list[float]] = {}
    heap: dict[str, list[float]] = {}
    with arms() as chosen:
        for arm in chosen:
            arm.run(WARM_UP, 0.0)
        for number in range(ROUNDS):
            for arm in chosen[:: 1 if number % 2 else -1]:
                ran = arm.run(ALONE, ALONE_PAUSE_S)
                alone.setdefault(arm.name, []).extend((one.done - one.sent) * 1000 for one in ran)
                ran = arm.run(HEAP, 0.0)
                took_s = max(one.done for one in ran) - min(one.sent for one in ran)
                heap.setdefault(arm.name, []).append(took_s * 1000 / HEAP)
    medians = {
        "alone": {name: statistics.median(values) for name, values in alone.items()},
        "of a heap": {name: statistics.median(values) for name, values in heap.items()},
    }
    for name in alone:
        sys.stderr.write(
            f"no-op, {name}: {medians['alone'][name]:.2f} ms alone,"
            f" {medians['of a heap'][name]:.2f} ms each of a heap\n"
        )
    return [row for how, each in medians.items() for row in rows(how, each)]


def rows(how: str, medians: Mapping[str, float]) -> Iterator[Row]:
    """Judge ours by the rivals that have the same promises from the broker."""
    for rival in (CELERY, DRAMATIQ, RECORDED):
        yield Row(
            metric=f"no-op task {how}, ms; the goal is that of {rival}",
            measured=medians[OURS],
            goal=round(medians[rival], 3),
            at_most=True,
        )


@contextmanager
def arms() -> Iterator[Sequence[Arm]]:
    """Start a broker, a database and all arms' workers; stop them."""
    with ExitStack() as stack:
        directory = stack.enter_context(bench_directory())
        broker = RabbitServer(directory / "broker")
        stack.callback(broker.stop)
        broker.start()
        database = PostgresServer(directory / "database", settings=DURABLE)
        stack.callback(database.stop)
        database.start()
        (directory / "peer").mkdir()
        ours = Ours(name=OURS, directory=directory / "peer", broker=broker, database=database)
        rivals = _rivals(directory, broker, database, _install(directory / "rivals"))
        chosen: Sequence[Arm] = (ours, *rivals)
        yield [stack.enter_context(arm.working()) for arm in chosen]


def _install(environment: Path) -> Path:
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    python = environment / "bin" / "python"
    quiet = ["-qq", "--disable-pip-version-check"]
    subprocess.run([python, "-m", "pip", "install", *quiet, *RIVALS], check=True)
    return python


def _rivals(
    directory: Path, broker: RabbitServer, database: PostgresServer, python: Path
) -> Iterator[Rival]:
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        connection.execute("CREATE DATABASE celery")
    results = f"db+{database.url_of('celery')}"
    arms = {
        CELERY: ("celery_tasks.py", {"QUORUM": "1", "RESULTS": ""}),
        DRAMATIQ: ("dramatiq_tasks.py", {"CONFIRM": "1"}),
        RECORDED: ("celery_tasks.py", {"QUORUM": "1", "RESULTS": results}),
        "Celery, classic, unconfirmed": ("celery_tasks.py", {"QUORUM": "0", "RESULTS": ""}),
        "dramatiq, classic, unconfirmed": ("dramatiq_tasks.py", {"CONFIRM": "0"}),
    }
    for number, (name, (script, environment)) in enumerate(arms.items()):
        queue = f"arm-{number}"
        yield Rival(
            name=name,
            python=python,
            script=script,
            environment={
                **environment,
                "BROKER": broker.url,
                "QUEUE": queue,
                "DONE": str(directory / queue),
            },
        )


if __name__ == "__main__":
    print_rows(measure())
