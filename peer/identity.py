"""Who a peer is, across its restarts: a uid that stays and an epoch that only rises.

The epoch is saved before anybody can hear of it, so that no two lives of a peer ever share one,
also when the clock was set back in between: it is the larger of the saved epoch plus one and the
time in seconds. Names and addresses change; nothing is ever recognised by them.
"""

from __future__ import annotations

import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

from peer.errors import PeerError


class IdentityUnusable(PeerError):
    """The identity file cannot be read or written; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A peer's uid, 16 hexadecimal digits (64 random bits), and the epoch of this life."""

    uid: str
    epoch: int


def renew(file: Path) -> Identity:
    """Read the identity, or make one, and save and return it with the next epoch.

    Raises:
        IdentityUnusable: The file is not an identity, or cannot be written.
    """
    try:
        saved = file.read_text().split()
    except FileNotFoundError:
        saved = [secrets.token_hex(8), "0"]
    except (OSError, UnicodeDecodeError) as error:
        raise IdentityUnusable(f"cannot read {file}: {error}") from error
    if len(saved) != 2 or not _is_uid(saved[0]) or not saved[1].isdecimal():
        raise IdentityUnusable(
            f"{file} does not hold a peer's identity; remove it, and the peer makes a new one"
        )
    identity = Identity(uid=saved[0], epoch=max(int(saved[1]) + 1, int(time.time())))
    try:
        _replace(file, f"{identity.uid} {identity.epoch}\n")
    except OSError as error:
        raise IdentityUnusable(f"cannot write {file}: {error}") from error
    return identity


def _is_uid(text: str) -> bool:
    return len(text) == 16 and all(digit in "0123456789abcdef" for digit in text)


def _replace(file: Path, content: str) -> None:
    """Replace a file so that after a crash it holds the old content or the new, never a part."""
    fresh = file.with_name(f".{file.name}.new")
    with fresh.open("w") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    fresh.replace(file)
    directory = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
