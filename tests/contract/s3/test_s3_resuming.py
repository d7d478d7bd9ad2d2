"""What is repeated goes on where it was, unless it is not the same any more."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from pipeline.errors import StoreUnavailable
from pipeline.stores.s3.config import PART_BYTES_MIN
from pipeline.stores.s3.store import S3Store
from tests.contract.s3.film import (
    FILM,
    moves_bytes,
    names_in,
    pulled,
    rewrite,
    second_part,
    unfinished,
)
from tests.servers.faulty_http import Exchange, Fault, FaultyProxy


async def test_a_pull_continues(
    in_order: S3Store, proxy: FaultyProxy, film: Path, tmp_path: Path
) -> None:
    """When the store comes back, only what is missing is fetched."""
    await in_order.push(film, "film")
    target = tmp_path / "target"
    proxy.fault = Fault(only=second_part, status=503)
    with pytest.raises(StoreUnavailable):
        await in_order.pull("film", target)
    assert not target.exists()
    proxy.heal()
    before = len(proxy.exchanges)

    assert await pulled(in_order, "film", target) == FILM
    came = sum(exchange.sent for exchange in proxy.exchanges[before:])
    assert PART_BYTES_MIN <= came < len(FILM)


async def test_a_pull_does_not_continue_another_version(
    in_order: S3Store, direct: S3Store, proxy: FaultyProxy, film: Path, tmp_path: Path
) -> None:
    """A file is never made of two: if the object was replaced meanwhile, all of it is fetched."""
    await in_order.push(film, "film")
    proxy.fault = Fault(only=second_part, status=503)
    with pytest.raises(StoreUnavailable):
        await in_order.pull("film", tmp_path / "target")
    proxy.heal()
    rewrite(film, FILM[::-1])
    await direct.push(film, "film")

    assert await pulled(in_order, "film", tmp_path / "target") == FILM[::-1]


async def test_a_push_continues(
    in_order: S3Store, direct: S3Store, proxy: FaultyProxy, film: Path, tmp_path: Path
) -> None:
    """Only the parts that the store has not got are sent again; nothing was visible before."""
    proxy.fault = Fault(only=second_part, status=503)
    with pytest.raises(StoreUnavailable):
        await in_order.push(film, "film")
    assert await direct.list("") == []
    proxy.heal()
    before = len(proxy.exchanges)
    told: list[int] = []

    async def report(sent: int) -> None:
        told.append(sent)

    await in_order.push(film, "film", report=report)
    sent = sum(exchange.received for exchange in proxy.exchanges[before:])
    assert PART_BYTES_MIN <= sent < len(FILM)
    assert told == sorted(told)
    assert told[-1] == len(FILM)
    assert proxy.count("POST", "uploads=") == 1 + 1  # the other one is `prepare`'s
    assert await pulled(direct, "film", tmp_path / "target") == FILM
    assert unfinished(direct) == []


async def test_a_push_does_not_continue_another_file(
    in_order: S3Store, direct: S3Store, proxy: FaultyProxy, film: Path, tmp_path: Path
) -> None:
    """Parts of what the file was before are never mixed with what it is."""
    proxy.fault = Fault(only=second_part, status=503)
    with pytest.raises(StoreUnavailable):
        await in_order.push(film, "film")
    proxy.heal()
    rewrite(film, FILM[::-1])
    await in_order.push(film, "film")

    assert await pulled(direct, "film", tmp_path / "target") == FILM[::-1]
    assert unfinished(direct) == []


async def test_a_push_whose_end_was_not_heard(
    store: S3Store, direct: S3Store, proxy: FaultyProxy, film: Path, tmp_path: Path
) -> None:
    """An upload that was completed, with the answer lost, is a success, not a failure."""

    def completes(exchange: Exchange) -> bool:
        return exchange.method == "POST" and "uploadId=" in exchange.target

    proxy.fault = Fault(only=completes, times=1, reset_at=0)
    await store.push(film, "film")

    assert await pulled(direct, "film", tmp_path / "target") == FILM


async def test_an_upload_that_somebody_swept(
    in_order: S3Store, direct: S3Store, proxy: FaultyProxy, film: Path, tmp_path: Path
) -> None:
    """A push that cannot continue, because its parts are gone, begins anew."""
    proxy.fault = Fault(only=second_part, status=503)
    with pytest.raises(StoreUnavailable):
        await in_order.push(film, "tasks/film")
    proxy.heal()
    assert await direct.sweep(0) == 1
    await in_order.push(film, "tasks/film")

    assert await pulled(direct, "tasks/film", tmp_path / "target") == FILM


@pytest.mark.parametrize("after_s", [0.0, 0.1, 0.3])
async def test_a_cancelled_push_lets_go(
    store: S3Store, direct: S3Store, proxy: FaultyProxy, film: Path, after_s: float
) -> None:
    """It ends within a second or so, though the store is slow, and leaves no parts there."""
    proxy.fault = Fault(only=moves_bytes, delay_s=30)
    with trio.fail_after(after_s + 3):
        with trio.move_on_after(after_s) as scope:
            await store.push(film, "film")
    assert scope.cancelled_caught
    assert await direct.list("") == []
    assert unfinished(direct) == []


async def test_a_cancelled_pull_lets_go(
    store: S3Store, proxy: FaultyProxy, film: Path, tmp_path: Path
) -> None:
    """It ends at once, though the bytes only trickle, and leaves no file."""
    await store.push(film, "film")
    proxy.fault = Fault(only=moves_bytes, drip_bytes_per_s=1000)
    with trio.fail_after(1.5):
        with trio.move_on_after(0.3) as scope:
            await store.pull("film", tmp_path / "target")

    assert scope.cancelled_caught
    assert names_in(tmp_path) == ["film.mp4"]
