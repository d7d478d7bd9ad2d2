"""A bundle as a file: its parts collected, cleaned of secrets, and written as one tar archive.

Parts are asked for at the same time, for when services are away each of them may take as long as
its bound; they are written in their order.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

import msgspec

from peer.bundle.parts import Part
from peer.disclosure import HIDDEN, Scrubber
from peer.errors import CommandFailed, PeerError
from pipeline.errors import PipelineError

AT_ONCE = 8
PART_BYTES_MAX = 16 * 1024 * 1024

ABOUT = """\
A support bundle of Grapevine, made by `peerctl bundle`.

manifest.json lists the parts, and says of each that is missing why.
Passwords, keys and tokens were taken out ({hidden}). What is in here all the same: names of
machines, addresses, names and places of videos, and what the logs say. Look through it before you
give it to anybody.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A part as the manifest tells of it.

    Args:
        missing: Why it is not there; empty when it is.
    """

    name: str
    size: int = 0
    missing: str = ""


@dataclass(frozen=True, slots=True)
class _Collected:
    entry: Entry
    content: bytes = b""


def write_bundle(
    file: Path, parts: Sequence[Part], scrubber: Scrubber, *, about: dict[str, Any]
) -> list[Entry]:
    """Collect the parts and write them; nothing but a whole bundle is ever at that place.

    Args:
        about: What else the manifest says.

    Raises:
        CommandFailed: It cannot be written.
    """
    with ThreadPoolExecutor(AT_ONCE) as pool:
        collected = list(pool.map(lambda part: _collect(part, scrubber), parts))
    manifest = {**about, "parts": [asdict(each.entry) for each in collected]}
    whole = [
        _Collected(Entry(name="README.txt"), ABOUT.format(hidden=HIDDEN).encode()),
        _Collected(Entry(name="manifest.json"), _document(scrubber.document(manifest))),
        *(each for each in collected if not each.entry.missing),
    ]
    fresh = file.with_name(f".{file.name}.{token_hex(4)}")
    try:
        try:
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as stream:
                _write(stream, file.name.partition(".tar")[0], whole)
            fresh.replace(file)
        except BaseException:
            with suppress(OSError):
                fresh.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise CommandFailed(f"cannot write {file}: {error.strerror}") from error
    return [each.entry for each in collected]


def _collect(part: Part, scrubber: Scrubber) -> _Collected:
    """Have a part; whatever goes wrong with it is its own trouble."""
    try:
        collected = part.collect()
        if part.name.endswith(".json"):
            content = _document(scrubber.document(msgspec.to_builtins(collected)))
        else:
            content = scrubber.text(str(collected)).encode()
    except (PeerError, PipelineError) as error:
        why = str(error)
    except OSError as error:
        why = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    except Exception as error:  # a bundle is made when things are broken: who knows which
        why = f"{type(error).__name__}: {error}"
    else:
        if len(content) <= PART_BYTES_MAX:
            return _Collected(Entry(name=part.name, size=len(content)), content)
        why = f"it is larger than {PART_BYTES_MAX} bytes"
    return _Collected(Entry(name=part.name, missing=scrubber.text(why)))


def _document(value: Any) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=False).encode() + b"\n"


def _write(stream: io.BufferedWriter, directory: str, whole: Sequence[_Collected]) -> None:
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for each in whole:
            member = tarfile.TarInfo(f"{directory}/{each.entry.name}")
            member.size, member.mode, member.mtime = len(each.content), 0o600, int(time.time())
            archive.addfile(member, io.BytesIO(each.content))
