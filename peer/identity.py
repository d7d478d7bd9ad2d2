"""Who a peer is, across its restarts: a uid that stays and an epoch that only rises.

The epoch is saved before anybody can hear of it, so that no two lives of a peer ever share one,
also when the clock was set back in between: it is the larger of the saved epoch plus one and the
time in seconds. Names and addresses change; nothing is ever recognised by them.

    ada's uid  1764000000        a life that goes on, or that ended by a crash
    ada's uid  1764000000 left   a life that ended in good order

So a peer that starts knows by itself that it crashed, which nobody else can tell who was not there.
The mark is in the same file, replaced as a whole, and whatever else stands in its place means a
crash: to take a clean end for one puts a part back a little sooner, while the opposite leaves it to
its lease.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from peer.errors import PeerError
from peer.files import replace_file

LEFT = "left"


class IdentityUnusable(PeerError):
    """The identity file cannot be read or written; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A peer's uid, 16 hexadecimal digits (64 random bits), and the epoch of this life."""

    uid: str
    epoch: int


def crashed(file: Path) -> Identity | None:
    """Return the last life, if there was one and it did not end in good order. Ask before `renew`.

    Raises:
        IdentityUnusable: The file is not an identity, or cannot be read.
    """
    saved = _read(file)
    if saved is None or saved.marks == [LEFT]:
        return None
    return saved.identity


def renew(file: Path) -> Identity:
    """Read the identity, or make one, and save and return it with the next epoch.

    Raises:
        IdentityUnusable: The file is not an identity, or cannot be read or written.
    """
    saved = _read(file)
    last = Identity(uid=secrets.token_hex(8), epoch=0) if saved is None else saved.identity
    identity = Identity(uid=last.uid, epoch=max(last.epoch + 1, int(time.time())))
    save(file, identity)
    return identity


def save(file: Path, identity: Identity) -> None:
    """Keep an identity for the next start.

    Raises:
        IdentityUnusable: The file cannot be written.
    """
    _write(file, f"{identity.uid} {identity.epoch}")


def mark_left(file: Path, identity: Identity) -> None:
    """Keep an identity whose life ends in good order: nothing was left for others to clear up.

    Raises:
        IdentityUnusable: The file cannot be written.
    """
    _write(file, f"{identity.uid} {identity.epoch} {LEFT}")


class _Saved(NamedTuple):
    identity: Identity
    marks: list[str]


def _read(file: Path) -> _Saved | None:
    try:
        words = file.read_text(encoding="utf-8", errors="replace").split()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise IdentityUnusable(f"cannot read {file}: {error}") from error
    if len(words) < 2 or not _is_uid(words[0]) or not _is_number(words[1]):
        raise IdentityUnusable(
            f"{file} does not hold a peer's identity; remove it, and the peer makes a new one"
        )
    return _Saved(Identity(uid=words[0], epoch=int(words[1])), words[2:])


def _write(file: Path, line: str) -> None:
    try:
        replace_file(file, f"{line}\n")
    except OSError as error:
        raise IdentityUnusable(f"cannot write {file}: {error}") from error


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 18


def _is_uid(text: str) -> bool:
    return len(text) == 16 and all(digit in "0123456789abcdef" for digit in text)
