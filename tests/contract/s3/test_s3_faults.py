"""What the store on S3 makes of a bad line, a bad server and bad bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from pipeline.errors import PullFailed, PushFailed, StoreUnavailable
from pipeline.stores.s3.config import PART_BYTES_MIN, S3Config
from pipeline.stores.s3.store import S3Store
from pipeline.stores.s3.wire import Wire
from tests.contract.s3.film import (
    FILM,
    moves_bytes,
    names_in,
    pulled,
    rewrite,
    second_part,
    unfinished,
)
from tests.servers.faulty_http import Fault, FaultyProxy
from tests.servers.s3 import S3Server

PASSING = {
    "500": Fault(only=moves_bytes, times=2, status=500),
    "503": Fault(only=moves_bytes, times=2, status=503, code="SlowDown"),
    "reset": Fault(only=moves_bytes, times=2, reset_at=0),
    "late": Fault(only=moves_bytes, delay_s=0.05),
}
PASSING_PULLS = {
    "truncated": Fault(only=moves_bytes, times=2, cut_at=100_000),
    "reset-in-it": Fault(only=moves_bytes, times=2, reset_at=100_000),
    "wrong-bit": Fault(only=moves_bytes, times=1, flip_at=70_000),
    "truncated-small": Fault(only=lambda e: e.method == "GET", times=1, cut_at=0),
}
PASSING_PUSHES = {"wrong-bit": Fault(only=moves_bytes, times=2, flip_request_at=70_000)}


@pytest.mark.parametrize("fault", [*PASSING, *PASSING_PULLS])
async def test_a_pull_survives_what_passes(
    store: S3Store, proxy: FaultyProxy, film: Path, tmp_path: Path, fault: str
) -> None:
    """What a moment mends costs some parts again, and nothing wrong gets into the file."""
    await store.push(film, "film")
    proxy.fault = (PASSING | PASSING_PULLS)[fault]

    assert await pulled(store, "film", tmp_path / "target") == FILM


@pytest.mark.parametrize("fault", [*PASSING, *PASSING_PUSHES])
async def test_a_push_survives_what_passes(
    store: S3Store, direct: S3Store, proxy: FaultyProxy, film: Path, tmp_path: Path, fault: str
) -> None:
    """The same in the other direction; the server finds a wrong bit by the signed digest."""
    proxy.fault = (PASSING | PASSING_PUSHES)[fault]
    await store.push(film, "film")

    assert await pulled(direct, "film", tmp_path / "target") == FILM
    assert unfinished(direct) == []


LASTING = {
    "500": (Fault(status=500), "answered 500 InternalError"),
    "full": (Fault(status=507, code="XMinioStorageFull"), "is full; make room"),
    "expired": (Fault(status=403, code="ExpiredToken"), "have expired .*renew them"),
    "denied": (Fault(status=403, code="AccessDenied"), "must be allowed to list it"),
    "secret": (Fault(status=403, code="SignatureDoesNotMatch"), "check store.s3.secret_key"),
    "key": (Fault(status=403, code="InvalidAccessKeyId"), "check store.s3.access_key"),
    "clock": (Fault(status=403, code="RequestTimeTooSkewed"), "clock"),
    "redirect": (
        Fault(status=301, code="PermanentRedirect", headers={"X-Amz-Bucket-Region": "eu-north-1"}),
        r"another region \(eu-north-1\); set store.s3.region",
    ),
    "no-s3": (Fault(status=418, code=""), "answered 418 HTTP418"),
    "reset": (Fault(reset_at=0), "broke the connection"),
}


@pytest.mark.parametrize("fault", LASTING)
async def test_what_is_everybodys_problem(
    store: S3Store, proxy: FaultyProxy, film: Path, tmp_path: Path, fault: str
) -> None:
    """The store is unavailable, with a sentence that says what to do; no task is to blame."""
    await store.push(film, "film")
    proxy.fault, sentence = LASTING[fault]
    calls: list[Callable[[], object]] = [
        lambda: store.pull("film", tmp_path / "target"),
        lambda: store.push(film, "film"),
        lambda: store.list("tasks"),
        lambda: store.remove("tasks"),
        lambda: store.sweep(0),
        store.prepare,
    ]
    for call in calls:
        with pytest.raises(StoreUnavailable, match=sentence):
            await call()  # type: ignore[misc]  # each is a coroutine of its own kind
    assert not (tmp_path / "target").exists()


async def test_a_folder_that_went_away(
    store: S3Store, direct: S3Store, proxy: FaultyProxy, film: Path, tmp_path: Path
) -> None:
    """Some servers keep real folders, and find none for a moment while others remove there."""
    puts = Fault(only=lambda e: e.method == "PUT", times=2, status=404, code="NoSuchKey")
    proxy.fault = puts
    await store.push(film, "film")

    assert await pulled(direct, "film", tmp_path / "target") == FILM


async def test_sizes(store: S3Store, film: Path) -> None:
    """An object's size is told without fetching it; a missing one as a pull would."""
    await store.push(film, "film")

    assert await store.size_of("film") == await store.size_of(store.url("film")) == len(FILM)
    with pytest.raises(PullFailed, match="there is no object"):
        await store.size_of("nothing")


async def test_a_missing_bucket(s3_config: S3Config, tmp_path: Path) -> None:
    """Everybody's problem too, also when the object is what was asked for."""
    store = S3Store(replace(s3_config, create_bucket=False))
    for call in (store.prepare(), store.pull("film", tmp_path / "x"), store.list("")):
        with pytest.raises(StoreUnavailable, match=r"no bucket .* make it, or set"):
            await call
    store.close()


async def test_a_server_that_is_not_there(s3_config: S3Config, tmp_path: Path) -> None:
    """It is told at once, not after the five minutes of minio's default."""
    store = S3Store(replace(s3_config, endpoint="http://127.0.0.1:1"))
    with trio.fail_after(5):
        with pytest.raises(StoreUnavailable, match=r"cannot be reached: .*refused"):
            await store.pull("film", tmp_path / "target")
        with pytest.raises(StoreUnavailable, match=r"cannot be reached: .*refused"):
            await store.list("film")
    store.close()


@pytest.mark.parametrize(
    "fault",
    [Fault(only=moves_bytes, silent=True), Fault(only=moves_bytes, drip_bytes_per_s=5_000)],
    ids=["silent", "trickle"],
)
async def test_a_store_that_is_as_good_as_silent(
    config: S3Config,
    store: S3Store,
    proxy: FaultyProxy,
    film: Path,
    tmp_path: Path,
    fault: Fault,
    open_store: Callable[[S3Config], S3Store],
) -> None:
    """Whether nothing comes or a few bytes a second: it is unavailable soon."""
    await store.push(film, "film")
    proxy.fault = fault
    impatient = open_store(replace(config, read_timeout_s=0.3))
    with trio.fail_after(10), pytest.raises(StoreUnavailable, match=r"silent|less than 64 KiB"):
        await impatient.pull("film", tmp_path / "target")


async def test_a_frozen_server(
    s3: S3Server,
    s3_config: S3Config,
    film: Path,
    tmp_path: Path,
    open_store: Callable[[S3Config], S3Store],
) -> None:
    """Its socket takes connections and bytes, and nobody answers: unavailable, and well again."""
    store = open_store(replace(s3_config, part_bytes=PART_BYTES_MIN, read_timeout_s=0.5))
    await store.prepare()
    await store.push(film, "film")
    s3.freeze()
    try:
        with trio.fail_after(20):
            with pytest.raises(StoreUnavailable):
                await store.pull("film", tmp_path / "target")
            with pytest.raises(StoreUnavailable):
                await store.push(film, "other")
    finally:
        s3.thaw()

    assert await pulled(store, "film", tmp_path / "target") == FILM


@pytest.mark.parametrize("way", ["stop", "kill"])
async def test_a_restarted_server(
    s3: S3Server, store: S3Store, film: Path, tmp_path: Path, way: str
) -> None:
    """What was stored is there, and connections that died with the server are no trouble."""
    await store.push(film, "film")
    getattr(s3, way)()
    s3.start()

    assert await pulled(store, "film", tmp_path / "target") == FILM


async def test_wrong_bytes_in_the_store(
    store: S3Store, proxy: FaultyProxy, film: Path, tmp_path: Path
) -> None:
    """Bytes that are wrong whenever they come are a failed pull, and no file."""
    await store.push(film, "film")
    proxy.fault = Fault(only=second_part, flip_at=5)
    with pytest.raises(PullFailed, match="does not have the checksum") as failure:
        await store.pull("film", tmp_path / "target")

    assert failure.value.code == "checksum_mismatch"
    assert not failure.value.permanent
    assert names_in(tmp_path) == ["film.mp4"]


async def test_wrong_bytes_on_the_way_up(
    store: S3Store, direct: S3Store, proxy: FaultyProxy, film: Path
) -> None:
    """Bytes that never arrive as they were sent are a failed push, and no object."""
    proxy.fault = Fault(only=second_part, flip_request_at=5)
    with pytest.raises(PushFailed) as failure:
        await store.push(film, "film")

    assert failure.value.code == "checksum_mismatch"
    assert await direct.list("") == []
    assert unfinished(direct) == []


@pytest.mark.parametrize("size", [1000, len(FILM)], ids=["one-request", "parts"])
async def test_objects_of_others(
    store: S3Store,
    proxy: FaultyProxy,
    wire: Wire,
    config: S3Config,
    film: Path,
    tmp_path: Path,
    size: int,
) -> None:
    """What another program has put there is checked by its ETag, where that can be done."""
    rewrite(film, FILM[:size])
    name = "from elsewhere/ä.mp4"
    wire.client.fput_object(config.bucket, name, str(film), part_size=PART_BYTES_MIN)
    key = f"s3://{config.bucket}/{name}"
    # This server does not tell how large the first part was, as AWS and MinIO do.
    proxy.fault = Fault(
        only=lambda e: "partNumber=1" in e.target,
        headers={"Content-Length": str(min(size, PART_BYTES_MIN))},
    )
    assert await pulled(store, key, tmp_path / "target") == FILM[:size]
    if size == len(FILM):
        assert proxy.count("HEAD", "partNumber=1") == 1
    if size < PART_BYTES_MIN:
        proxy.fault = Fault(only=lambda e: e.method == "GET", flip_at=999)
        with pytest.raises(PullFailed, match="checksum"):
            await store.pull(key, tmp_path / "target")


async def test_a_server_that_tells_nothing_of_parts(
    store: S3Store, proxy: FaultyProxy, wire: Wire, config: S3Config, film: Path, tmp_path: Path
) -> None:
    """Some refuse to tell how an object was uploaded: then only its size is known, and it comes."""
    wire.client.fput_object(config.bucket, "film", str(film), part_size=PART_BYTES_MIN)
    proxy.fault = Fault(only=lambda e: "partNumber=1" in e.target, status=501, code="")

    assert await pulled(store, "film", tmp_path / "target") == FILM
    assert proxy.count("HEAD", "partNumber=1") == 1
