"""What the store on S3 promises beyond the port."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, tzinfo
from pathlib import Path

import pytest
import trio

from pipeline.errors import BadRequest, PullFailed, PushFailed
from pipeline.stores.keys import FOLDERS, RESERVED
from pipeline.stores.locations import Location
from pipeline.stores.s3 import store as store_module
from pipeline.stores.s3 import uploads
from pipeline.stores.s3.checksums import HEADER
from pipeline.stores.s3.config import PART_BYTES_MIN, S3Config
from pipeline.stores.s3.store import S3Store
from pipeline.stores.s3.threads import GRACE_S, Stop
from pipeline.stores.s3.wire import Request, Wire
from tests.bench.store import measure_memory
from tests.contract.s3.film import (
    FILM,
    MIB,
    names_in,
    pulled,
    unfinished,
)
from tests.servers.faulty_http import FaultyProxy


async def test_sources_in_other_buckets(
    store: S3Store,
    open_store: Callable[[S3Config], S3Store],
    config: S3Config,
    film: Path,
    tmp_path: Path,
) -> None:
    """A task may name an object of any bucket; what is wrong with it is that task's affair."""
    other = open_store(replace(config, bucket=f"{config.bucket}-other"))
    await other.prepare()
    await other.push(film, "folder/film")

    key = other.url("folder/film")
    assert key == f"s3://{config.bucket}-other/folder/film"
    assert await pulled(store, key, tmp_path / "target") == FILM
    for key, code in (
        (other.url("folder/nothing"), "no_such_object"),
        ("s3://no-such-bucket-here/film", "bucket_refused"),
    ):
        with pytest.raises(PullFailed) as failure:
            await store.pull(key, tmp_path / "target")
        assert (failure.value.code, failure.value.permanent) == (code, True)
    for key in ("s3://", "s3://bucket", "s3://bucket/", "s3://b/x", "s3://bucket/../x"):
        with pytest.raises(BadRequest):
            await store.pull(key, tmp_path / "target")


async def test_sweeping(s3_config: S3Config, store: S3Store, wire: Wire) -> None:
    """Uploads that were begun long ago go, newer ones stay; `remove` takes those of its prefix."""
    bucket = s3_config.bucket
    for key in ("tasks/1/attempt-1/a", "tasks/1/attempt-1/b", "tasks/2/attempt-1/a"):
        uploads.begin(wire, Location(bucket, key), {}, Stop())

    assert await store.sweep(3600) == 0
    assert await store.remove("tasks/1/attempt-1") == 0
    pending = uploads.list_pending(wire, bucket, "", Stop())
    assert [each.location.key for each in pending] == ["tasks/2/attempt-1/a"]
    assert await store.sweep(0) == 1
    assert await store.sweep(0) == 0


async def test_sweeping_leaves_others_alone(
    s3_config: S3Config, wire: Wire, store: S3Store, open_store: Callable[[S3Config], S3Store]
) -> None:
    """In a shared bucket the uploads of others are not ours to abort, with and without a prefix."""
    theirs = ["customers/huge.mov", "huge.mov", "ours/huge.mov", "tasks-of-theirs/x"]
    own = [f"{name}/x" for name in (*FOLDERS, RESERVED)]
    below = [f"ours/{key}" for key in own]
    for key in (*theirs, *own, *below):
        uploads.begin(wire, Location(s3_config.bucket, key), {}, Stop())

    assert await open_store(replace(s3_config, prefix="ours")).sweep(0) == len(below)
    assert unfinished(store) == sorted((*theirs, *own))
    assert await store.sweep(0) == len(own)
    assert unfinished(store) == theirs


async def test_a_store_whose_clock_is_ahead(
    s3_config: S3Config, store: S3Store, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `remove` aborts is all that is below the prefix, whenever that may have been begun."""

    class Behind(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Behind:
            return cls.fromtimestamp(time.time() - 3600, tz)

    uploads.begin(wire, Location(s3_config.bucket, "tasks/1/attempt-1/a"), {}, Stop())
    monkeypatch.setattr(store_module, "datetime", Behind)

    assert await store.sweep(0) == 0
    assert await store.remove("tasks/1") == 0
    assert unfinished(store) == []


@pytest.mark.slow
async def test_many_objects(
    s3_config: S3Config, store: S3Store, wire: Wire, proxy: FaultyProxy
) -> None:
    """More than one page is listed, and removed, whole."""
    stop = Stop()
    for number in range(1003):
        request = Request(
            method="PUT", bucket=s3_config.bucket, key=f"tasks/1/{number:04}", body=b"x"
        )
        wire.ask(request, stop)

    assert len(await store.list("tasks")) == 1003
    assert await store.remove("tasks/1") == 1003
    assert await store.list("") == []


async def test_what_is_kept_with_an_object(
    s3_config: S3Config, store: S3Store, wire: Wire, film: Path
) -> None:
    """Its checksum, and its type, so that a player can be pointed at it."""
    await store.push(film, "hls/master.m3u8")
    request = Request(method="HEAD", bucket=s3_config.bucket, key="hls/master.m3u8")
    headers, _ = wire.ask(request, Stop())

    assert headers[HEADER].startswith(f"crc32-{PART_BYTES_MIN}-")
    assert headers["content-type"] == "application/vnd.apple.mpegurl"


async def test_pushing_a_file_that_changes(
    store: S3Store, direct: S3Store, proxy: FaultyProxy, film: Path
) -> None:
    """A file that somebody writes to is not stored, for nobody knows what it would be."""

    async def spoil(sent: int) -> None:
        with film.open("r+b") as file:
            file.seek(len(FILM) - 1)
            file.write(bytes([FILM[-1] ^ 1]))

    with pytest.raises(PushFailed) as failure:
        await store.push(film, "film", report=spoil)
    assert failure.value.code == "source_changed"
    assert await direct.list("") == []
    assert unfinished(direct) == []


async def test_a_full_disk(
    store: S3Store, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No room for the file is found out before the first byte comes, and another peer may have."""

    def full(*_: int) -> None:
        raise OSError(28, "No space left on device")

    await store.push(film, "film")
    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(PullFailed, match="disk is full") as failure:
        await store.pull("film", tmp_path / "target")

    assert (failure.value.code, failure.value.permanent) == ("disk_full", False)
    assert names_in(tmp_path) == ["film.mp4"]


async def test_cancelled_while_room_is_taken(
    store: S3Store, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a slow disk too, nothing is made after the end of a pull that was cancelled."""
    began, release = threading.Event(), threading.Event()
    allocate = os.posix_fallocate

    def slowly(descriptor: int, offset: int, size: int) -> None:
        # The kernel goes on with a file that somebody closes meanwhile.
        held = os.dup(descriptor)
        began.set()
        release.wait(30)
        allocate(held, offset, size)
        os.close(held)

    await store.push(film, "film")
    monkeypatch.setattr("os.posix_fallocate", slowly)
    before = names_in(Path("/proc/self/fd"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.pull, "film", tmp_path / "target")
        await trio.to_thread.run_sync(began.wait)
        # Longer than anybody waits for a request.
        timer = threading.Timer(GRACE_S + 0.2, release.set)
        timer.start()
        nursery.cancel_scope.cancel()
    timer.join()
    with trio.fail_after(10):
        while store._disk._limiter.borrowed_tokens:  # noqa: ASYNC110 - it tells nobody
            await trio.sleep(0.01)

    assert names_in(tmp_path) == ["film.mp4"]
    assert len(names_in(Path("/proc/self/fd"))) <= len(before)  # others may end meanwhile


@pytest.mark.slow
def test_memory(s3_config: S3Config, tmp_path: Path) -> None:
    """Moving a large object takes no more memory than its parts' buffers, in both directions.

    The bench measures 5 GiB. Here one is enough that is several times larger than all buffers
    would be if parts were held in memory.
    """
    moved = measure_memory(s3_config, tmp_path, 512 * MIB)

    assert set(moved) == {"push", "pull"}
    for one in moved.values():
        assert one.memory_mb <= 64
