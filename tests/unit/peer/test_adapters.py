"""What stands behind the ports is chosen by the settings; what is wrong with it is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from peer import adapters, config
from peer.config import Config
from peer.errors import ConfigError
from pipeline.errors import StoreUnavailable, WrongStore
from pipeline.ledger.postgres import PostgresLedger
from pipeline.stores.directory import DirectoryStore
from pipeline.stores.s3.store import S3Store

Read = Callable[..., Config]

S3 = {
    "store.s3.endpoint": "https://s3.example.com",
    "store.s3.access_key": "key",
    "store.s3.secret_key": "secret",
}


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Settings of a peer in a directory of its own."""

    def read(**given: str) -> Config:
        flags = {"peer.data_dir": str(tmp_path / "data")} | given
        return config.load(flags, file=Path("/dev/null"), environment={})

    return read


async def test_a_directory_is_the_default(read: Read, tmp_path: Path) -> None:
    """It is made where nobody named one, and knows nothing of other stores."""
    with adapters.open_store(read()) as opened:
        assert isinstance(opened.store, DirectoryStore)
        assert opened.size_of is None
        assert await opened.about.describe() == f"at {tmp_path}/data/store"


async def test_a_directory_that_was_named_must_be_there(read: Read, tmp_path: Path) -> None:
    """A disk that is not mounted is not an empty store."""
    with (
        pytest.raises(StoreUnavailable, match="mounted"),
        adapters.open_store(read(**{"store.directory": str(tmp_path / "disk")})) as opened,
    ):
        await opened.store.list("tasks")


def test_an_endpoint_is_s3(read: Read) -> None:
    """Nothing is asked of it yet; it may be away."""
    with adapters.open_store(read(**S3)) as opened:
        assert isinstance(opened.store, S3Store)
        assert opened.size_of is not None


async def test_what_is_said_of_a_store_that_is_not_the_clusters(
    read: Read, ledger: PostgresLedger, tmp_path: Path
) -> None:
    """That it answers is not enough. The doctor says so, and the log at the start."""
    with adapters.open_store(read()) as opened:
        _, about = adapters.marked(opened, ledger)
        assert await about.describe() == f"at {tmp_path}/data/store"
    (tmp_path / "disk").mkdir()
    with adapters.open_store(read(**{"store.directory": str(tmp_path / "disk")})) as opened:
        store, about = adapters.marked(opened, ledger)
        with pytest.raises(WrongStore, match=f"{tmp_path}/disk is not the store of this cluster"):
            await about.describe()
        assert await store.adopt()
        assert await about.describe() == f"at {tmp_path}/disk"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"store.s3.access_key": None, "store.s3.secret_key": None}, "credentials"),
        ({"store.s3.ca_file": "/no/such/file.pem"}, "file.pem"),
    ],
)
def test_a_store_that_cannot_be_is_a_wrong_setting(
    read: Read, changes: dict[str, str], words: str
) -> None:
    """The sentence is for a person, without a traceback, and the peer does not start with it."""
    with pytest.raises(ConfigError, match=words), adapters.open_store(read(**S3 | changes)):
        pytest.fail("it was opened")


def test_nobody_is_told_where_nobody_is_named(read: Read) -> None:
    """There is a channel only with addresses."""
    assert adapters.open_channel(read()) is None
    assert adapters.open_channel(read(**{"notify.urls": "json://127.0.0.1:1/x"})) is not None
