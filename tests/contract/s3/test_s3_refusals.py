"""Whose problem it is that the store on S3 refuses an object: that task's, or everybody's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import PullFailed, StoreUnavailable
from pipeline.stores.s3.config import S3Config
from pipeline.stores.s3.store import S3Store
from tests.contract.s3.film import FILM, names_in, pulled
from tests.servers.faulty_http import Exchange, Fault, FaultyProxy

DENIED = Fault(status=403, code="AccessDenied")
REFUSALS = {
    # Encrypted by its owner with a key that only the owner has.
    "customer-key": (Fault(status=400, code="InvalidRequest"), r"answered 400 InvalidRequest: inj"),
    # Encrypted with a key, or closed by a policy, that does not allow for us.
    "denied": (DENIED, r"denies access to it \(AccessDenied: inj.*\); the access key must"),
    # Something on the way does not like its name.
    "filtered": (Fault(status=418, code=""), "answered 418 HTTP418"),
}


def is_bad(exchange: Exchange) -> bool:
    """About the one object that is refused."""
    return "bad-one" in exchange.target


def is_read(exchange: Exchange) -> bool:
    """About what is there."""
    return exchange.method in ("GET", "HEAD")


def is_write(exchange: Exchange) -> bool:
    """About what shall be there."""
    return exchange.method in ("PUT", "POST")


@pytest.fixture
async def other(config: S3Config, open_store: Callable[[S3Config], S3Store]) -> S3Store:
    """A bucket that is somebody else's."""
    other = open_store(replace(config, bucket=f"{config.bucket}-other"))
    await other.prepare()
    return other


@pytest.mark.parametrize("where", ["ours", "theirs"])
@pytest.mark.parametrize("refusal", REFUSALS)
async def test_one_object_is_refused(
    store: S3Store,
    other: S3Store,
    proxy: FaultyProxy,
    film: Path,
    tmp_path: Path,
    refusal: str,
    where: str,
) -> None:
    """That task fails, with what the store said, and nobody takes the store for ill."""
    owner = store if where == "ours" else other
    for name in ("bad-one", "good-one"):
        await owner.push(film, f"sources/{name}")
    fault, sentence = REFUSALS[refusal]
    proxy.fault = replace(fault, only=is_bad)
    bad, target = owner.url("sources/bad-one"), tmp_path / "target"
    code = "bucket_refused" if (refusal, where) == ("denied", "theirs") else "object_refused"
    for call in (store.pull(bad, target), store.size_of(bad)):
        with pytest.raises(PullFailed, match=sentence) as failure:
            await call
        assert (failure.value.code, failure.value.permanent) == (code, True)

    assert names_in(tmp_path) == ["film.mp4"]
    assert await pulled(store, owner.url("sources/good-one"), target) == FILM


@pytest.mark.parametrize("where", ["ours", "theirs"])
async def test_everything_is_refused(
    store: S3Store, other: S3Store, proxy: FaultyProxy, film: Path, tmp_path: Path, where: str
) -> None:
    """No task is to blame, not even one whose source lies elsewhere."""
    owner = store if where == "ours" else other
    await owner.push(film, "film")
    proxy.fault = DENIED
    with pytest.raises(StoreUnavailable, match="must be allowed to list it") as failure:
        await store.pull(owner.url("film"), tmp_path / "target")

    assert failure.value.definite
    proxy.heal()
    assert await pulled(store, owner.url("film"), tmp_path / "target") == FILM


@pytest.mark.parametrize(
    "code",
    ["ExpiredToken", "InvalidAccessKeyId", "SignatureDoesNotMatch", "RequestTimeTooSkewed"],
)
async def test_what_is_about_the_asker(
    store: S3Store, proxy: FaultyProxy, tmp_path: Path, code: str
) -> None:
    """Credentials and clocks are no task's, even if they are good again when we ask once more."""
    proxy.fault = Fault(only=is_bad, status=400, code=code)
    with pytest.raises(StoreUnavailable):
        await store.pull("bad-one", tmp_path / "target")


async def test_one_of_several_servers_is_ill(
    store: S3Store, proxy: FaultyProxy, film: Path, tmp_path: Path
) -> None:
    """An object that is refused once and given then is a good one."""
    await store.push(film, "bad-one")
    # A HEAD, and the GET that asks for the reason.
    proxy.fault = replace(DENIED, only=is_bad, times=2)

    assert await pulled(store, "bad-one", tmp_path / "target") == FILM


async def test_too_many_requests(
    store: S3Store, proxy: FaultyProxy, film: Path, tmp_path: Path
) -> None:
    """Below 500 too, whatever the server calls it: it passes, and no object is to blame."""
    await store.push(film, "bad-one")
    busy = Fault(only=is_bad, status=429, code="TooManyRequests")
    proxy.fault = replace(busy, times=4)
    assert await pulled(store, "bad-one", tmp_path / "target") == FILM

    proxy.fault = busy
    with pytest.raises(StoreUnavailable, match="answered 429"):
        await store.pull("bad-one", tmp_path / "target")


async def test_a_key_that_may_not_read(store: S3Store, proxy: FaultyProxy) -> None:
    """It is found out before the first task comes, as is one that may not write."""
    for only in (is_read, is_write):
        proxy.fault = replace(DENIED, only=only)
        with pytest.raises(StoreUnavailable, match="to get, put and delete objects"):
            await store.prepare()


async def test_a_bucket_elsewhere(
    store: S3Store, other: S3Store, proxy: FaultyProxy, tmp_path: Path
) -> None:
    """What is wrong with somebody else's bucket is said of that one, not of our settings."""
    moved = Fault(
        only=lambda e: "-other" in e.target,
        status=301,
        code="PermanentRedirect",
        headers={"X-Amz-Bucket-Region": "eu-north-1"},
    )
    proxy.fault = moved
    for key, sentence in (
        (other.url("film"), r"another region \(eu-north-1\); copy it"),
        ("s3://no-such-bucket-here/film", "no bucket 'no-such-bucket-here' .*correct the source"),
    ):
        with pytest.raises(PullFailed, match=sentence) as failure:
            await store.pull(key, tmp_path / "target")
        assert failure.value.code == "bucket_refused"
