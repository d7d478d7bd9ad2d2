"""1 GB to an S3 server and back, by our store and by minio-py alone; and the memory for 5 GB.

Both arms speak to one server on this machine, take turns, and leave a file on the disk. What ours
does in addition is in its time: it hashes the file for the checksum that is kept with the object,
and checks every byte on the way back; minio-py does not. The memory is that of a process that does
nothing else, over what it had after its first small push and pull.
"""

from __future__ import annotations

import json
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import minio
import trio

from pipeline.stores.s3.config import S3Config
from pipeline.stores.s3.store import S3Store
from tests.bench.one_peer import bench_directory
from tests.bench.rows import Row, print_rows
from tests.servers.s3 import S3Server

MIB = 1024 * 1024
SIZE = 1024 * MIB
LARGE = 5 * 1024 * MIB
ROUNDS = 5
GOAL = 0.9
MEMORY_GOAL_MB = 64
BUCKET = "bench"


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What moving one object took; memory is over that of the idle process."""

    seconds: float
    cpu_seconds: float
    memory_mb: float


def measure() -> list[Row]:
    """Both arms in turns, then the memory of ours."""
    with bench_directory() as directory:
        server = S3Server(directory / "server")
        server.start()
        try:
            config = config_for(server)
            return [*_ratios(config, directory), *_memory(config, directory)]
        finally:
            server.kill()


def config_for(server: S3Server) -> S3Config:
    """Where the bench's objects lie."""
    return S3Config(
        endpoint=server.endpoint,
        bucket=BUCKET,
        access_key=server.access_key,
        secret_key=server.secret_key,
        create_bucket=True,
    )


def _ratios(config: S3Config, directory: Path) -> list[Row]:
    source, target = directory / "source", directory / "target"
    make_file(source, SIZE)
    store = S3Store(config)
    trio.run(store.prepare)
    client = minio.Minio(
        urlsplit(config.endpoint or "").netloc,
        config.access_key,
        config.secret_key,
        secure=False,
        region="us-east-1",
    )
    arms: dict[tuple[str, str], Callable[[], object]] = {
        ("push", "ours"): lambda: trio.run(store.push, source, "ours"),
        ("push", "minio-py"): lambda: client.fput_object(BUCKET, "theirs", str(source)),
        ("pull", "ours"): lambda: trio.run(store.pull, "ours", target),
        ("pull", "minio-py"): lambda: client.fget_object(BUCKET, "theirs", str(target)),
    }
    taken: dict[tuple[str, str], list[tuple[float, float]]] = {arm: [] for arm in arms}
    for number in range(ROUNDS + 1):
        # A B, then B A: what drifts during the run is on both sides.
        for way in ("push", "pull"):
            for who in ("ours", "minio-py")[:: 1 if number % 2 else -1]:
                target.unlink(missing_ok=True)
                seconds = _timed(arms[way, who])
                if number:  # the first round warms everything up
                    taken[way, who].append(seconds)
    for (way, who), times in taken.items():
        wall_s, cpu_s = (statistics.median(column) for column in zip(*times, strict=True))
        sys.stderr.write(
            f"{way} of 1 GiB by {who}: {wall_s:.2f} s, of which {cpu_s:.2f} s CPU in the client\n"
        )
    return [
        Row(
            metric=f"{way} of 1 GiB, S3: speed of ours / of minio-py alone",
            measured=_median(taken[way, "minio-py"]) / _median(taken[way, "ours"]),
            goal=GOAL,
        )
        for way in ("push", "pull")
    ]


def _memory(config: S3Config, directory: Path) -> list[Row]:
    rows = []
    for way, moved in measure_memory(config, directory, LARGE).items():
        sys.stderr.write(
            f"{way} of 5 GiB: {moved.seconds:.1f} s, {moved.cpu_seconds:.1f} s CPU in the client\n"
        )
        row = Row(
            metric=f"{way} of 5 GiB, S3: peak memory over idle, MB",
            measured=moved.memory_mb,
            goal=MEMORY_GOAL_MB,
            at_most=True,
        )
        rows.append(row)
    return rows


def measure_memory(config: S3Config, directory: Path, size: int) -> dict[str, Moved]:
    """Push a file of that size in a process of its own, then pull it in another one."""
    source, target = directory / "large", directory / "pulled"
    with source.open("wb") as file:
        file.truncate(size)
    order = {
        "endpoint": config.endpoint,
        "bucket": config.bucket,
        "access_key": config.access_key,
        "secret_key": config.secret_key,
    }
    measured = {}
    for way, path in (("push", source), ("pull", target)):
        finished = subprocess.run(
            [sys.executable, "-m", "tests.bench.store", "move", way, str(path)],
            input=json.dumps(order),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            cwd=Path(__file__).parents[2],
        )
        measured[way] = Moved(**json.loads(finished.stdout))
    assert target.stat().st_size == size
    return measured


def move(way: str, path: Path) -> None:
    """What the process of its own does; who is asked for it comes on standard input."""
    store = S3Store(S3Config(**json.load(sys.stdin), create_bucket=True))
    little = path.with_name("little")
    make_file(little, MIB)

    async def warm_up() -> None:
        await store.prepare()
        await store.push(little, "little")
        await store.pull("little", path.with_name(f"little-{way}"))

    trio.run(warm_up)
    # Forget the peak of what was before, such as the imports.
    Path("/proc/self/clear_refs").write_text("5")
    idle_kb = _memory_kb("VmRSS")
    work = (
        partial(store.push, path, "large") if way == "push" else partial(store.pull, "large", path)
    )
    seconds, cpu_seconds = _timed(lambda: trio.run(work))
    memory_mb = (_memory_kb("VmHWM") - idle_kb) / 1024
    moved = {"seconds": seconds, "cpu_seconds": cpu_seconds, "memory_mb": memory_mb}
    sys.stdout.write(json.dumps(moved))


def make_file(path: Path, size: int) -> None:
    """Fill a file with what no server can compress or find twice."""
    generator = random.Random(0)
    with path.open("wb") as file:
        for _ in range(size // MIB):
            file.write(generator.randbytes(MIB))


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    began, cpu_began = time.perf_counter(), _cpu_seconds()
    work()
    return time.perf_counter() - began, _cpu_seconds() - cpu_began


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _median(times: list[tuple[float, float]]) -> float:
    return statistics.median(seconds for seconds, _ in times)


def _memory_kb(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    raise AssertionError(f"the kernel does not tell {name}")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["move", way, path]:
            move(way, Path(path))
        case _:
            print_rows(measure())
