"""Stores over a real server, directly and over a line that can be made bad."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.stores.s3 import crew
from pipeline.stores.s3.config import PART_BYTES_MIN, S3Config
from pipeline.stores.s3.store import S3Store
from pipeline.stores.s3.wire import Wire
from tests.contract.s3.film import (
    FILM,
)
from tests.servers.faulty_http import FaultyProxy
from tests.servers.s3 import S3Server


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tried again is tried at once."""
    monkeypatch.setattr(crew, "PAUSES_S", (0.01, 0.01))


@pytest.fixture
def proxy(s3: S3Server) -> Iterator[FaultyProxy]:
    with FaultyProxy(s3.port) as proxy:
        yield proxy


@pytest.fixture
def config(s3_config: S3Config, proxy: FaultyProxy) -> S3Config:
    """Through the proxy, with small parts, and impatient."""
    return replace(
        s3_config,
        endpoint=proxy.endpoint,
        part_bytes=PART_BYTES_MIN,
        connect_timeout_s=2.0,
        read_timeout_s=5.0,
    )


@pytest.fixture
def open_store(request: pytest.FixtureRequest) -> Callable[[S3Config], S3Store]:
    """Open stores that are closed when the test is over."""

    def open_one(config: S3Config) -> S3Store:
        store = S3Store(config, environment={})
        request.addfinalizer(store.close)
        return store

    return open_one


@pytest.fixture
async def store(config: S3Config, open_store: Callable[[S3Config], S3Store]) -> S3Store:
    store = open_store(config)
    await store.prepare()
    return store


@pytest.fixture
def in_order(
    config: S3Config, store: S3Store, open_store: Callable[[S3Config], S3Store]
) -> S3Store:
    """The same, one part after the other: the first is whole when the second one fails."""
    return open_store(replace(config, parallel_parts=1))


@pytest.fixture
async def direct(
    s3_config: S3Config, store: S3Store, open_store: Callable[[S3Config], S3Store]
) -> S3Store:
    """The same bucket without the proxy: what is really there."""
    return open_store(replace(s3_config, part_bytes=PART_BYTES_MIN))


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "film.mp4"
    path.write_bytes(FILM)
    return path


@pytest.fixture
def wire(s3_config: S3Config) -> Iterator[Wire]:
    """For requests that the store itself does not make."""
    store = S3Store(s3_config)
    yield store._wire
    store.close()
