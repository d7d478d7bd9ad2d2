"""What is moved in the tests of the store on S3, and what becomes of it."""

from __future__ import annotations

import random
from pathlib import Path

from pipeline.stores.s3 import uploads
from pipeline.stores.s3.config import PART_BYTES_MIN
from pipeline.stores.s3.store import S3Store
from pipeline.stores.s3.threads import Stop
from tests.servers.faulty_http import Exchange

MIB = 1024 * 1024
FILM = random.Random(4).randbytes(3 * PART_BYTES_MIN + 1)
PARTS = 4


def moves_bytes(exchange: Exchange) -> bool:
    """A part's request, in either direction."""
    return "Range" in exchange.headers or "partNumber" in exchange.target


def second_part(exchange: Exchange) -> bool:
    """That of the second part."""
    begins = f"bytes={PART_BYTES_MIN}-"
    by_range = exchange.headers.get("Range", "").startswith(begins)
    return by_range or "partNumber=2&" in exchange.target + "&"


async def pulled(store: S3Store, key: str, target: Path) -> bytes:
    """The bytes; nothing else is left in the target's folder."""
    size = await store.pull(key, target)
    content = take(target)
    assert size == len(content)
    assert not any(name.startswith(f".{target.name}") for name in names_in(target.parent))
    return content


def take(path: Path) -> bytes:
    """Read a file and remove it."""
    content = path.read_bytes()
    path.unlink()
    return content


def rewrite(path: Path, content: bytes) -> None:
    """Give a file other bytes."""
    path.write_bytes(content)


def make_folder(folder: Path) -> None:
    """Make a folder."""
    folder.mkdir()


def unfinished(store: S3Store) -> list[str]:
    """Keys of the uploads in the store's bucket that were neither completed nor aborted."""
    pending = uploads.list_pending(store._wire, store._config.bucket, "", Stop())
    return sorted(each.location.key for each in pending)


def names_in(folder: Path) -> list[str]:
    """Of all that is in a folder."""
    return sorted(path.name for path in folder.iterdir())
