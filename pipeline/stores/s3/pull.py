"""From the store to a file: parts in parallel, each checked as it comes, none of it twice.

One HEAD tells the version; every part is then asked for of just that version (`If-Match`), so a
file is never made of two. Where the object was cut as it was when it was stored, its parts are
digested while they come; otherwise the file is read once more at the end.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import trio

from pipeline.stores.locations import Location
from pipeline.stores.s3.checksums import (
    UNIT_BYTES_MAX,
    UNIT_BYTES_MIN,
    Algorithm,
    Checksum,
    combine,
    has_parts,
    kept_checksum,
    new_digest,
    parts_checksum,
)
from pipeline.stores.s3.config import S3Config
from pipeline.stores.s3.crew import SHORT, persist, share_out
from pipeline.stores.s3.partial import Partial, Version
from pipeline.stores.s3.parts import Part, cut, unit_for
from pipeline.stores.s3.problems import RANGE_IGNORED, Lost, Problem, Refused
from pipeline.stores.s3.sections import read_through
from pipeline.stores.s3.threads import Stop, Threads
from pipeline.stores.s3.wire import Request, Wire

PASSES = 2
"""How often an object is fetched whose bytes do not add up."""
VERSIONS = 10
"""How often we begin anew because somebody replaced the object since."""
NEW_VERSION = frozenset({"PreconditionFailed", "InvalidRange"})


class Changed(Exception):
    """Somebody goes on replacing the object."""


class Corrupt(Exception):
    """The bytes that came, again and again, are not those that were stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An object as the store describes it."""

    etag: str
    size: int
    checksum: Checksum | None


def look(wire: Wire, location: Location, stop: Stop) -> Found:
    """Ask for an object's version, size and checksum."""
    headers = wire.look(location, stop)
    size = int(headers.get("content-length", 0))
    checksum = kept_checksum(headers, size)
    if checksum is None and has_parts(headers):
        checksum = parts_checksum(headers, size, _first_part(wire, location, stop))
    return Found(etag=headers.get("etag", ""), size=size, checksum=checksum)


def _first_part(wire: Wire, location: Location, stop: Stop) -> int:
    """The size in bytes of the first part that an object was uploaded in; 0 if nobody tells."""
    try:
        headers = wire.look(location, stop, {"partNumber": "1"})
    except Refused as refused:
        if refused.passing:
            raise
        return 0
    return int(headers.get("content-length", 0))


class Pull:
    """One object on its way to one file.

    Args:
        threads: For requests; of these some may hang.
        disk: For files; these end soon.
    """

    def __init__(
        self,
        wire: Wire,
        config: S3Config,
        location: Location,
        target: Path,
        *,
        threads: Threads,
        disk: Threads,
    ) -> None:
        self._wire = wire
        self._config = config
        self._location = location
        self._target = target
        self._threads = threads
        self._disk = disk

    async def run(self) -> int:
        """Fetch it, and return its size in bytes.

        What has come stays beside the target when the store is away, and goes in any other case.

        Raises:
            Problem: The store would not, or could not.
            Changed: There was a new version whenever we came for the last one's bytes.
            Corrupt: What it sent is wrong.
            OSError: Of the target.
        """
        for _ in range(VERSIONS):
            found = await self._look()
            try:
                return await self._fetch_version(found)
            except Refused as refused:
                if refused.code not in NEW_VERSION:
                    raise
            except Corrupt:
                # Some gateways show an object's new bytes under its old checksum for a moment.
                if await self._look() == found:
                    raise
        raise Changed

    async def _look(self) -> Found:
        """Find the version that is there now."""
        within_s = SHORT * self._config.read_timeout_s
        return await persist(
            lambda: self._threads.run(
                lambda stop: look(self._wire, self._location, stop), within_s=within_s
            )
        )

    async def _fetch_version(self, found: Found) -> int:
        partial = Partial(self._target, self._version_of(found))
        whole = kept = False
        try:
            # What ends it below must find all that this has made.
            await self._disk.run(lambda stop: partial.open(stop.check), grace_s=math.inf)
            await self._fetch_all(partial, found)
            whole = True
        except Problem as problem:
            kept = problem.passing
            raise
        finally:
            end = partial.publish if whole else partial.close if kept else partial.discard
            with trio.CancelScope(shield=True):
                await self._disk.run(lambda _: end())
        return found.size

    def _version_of(self, found: Found) -> Version:
        """Choose the parts: as they were cut, if that is sensible, so that each can be checked."""
        unit, algorithm = unit_for(found.size, self._config.part_bytes), ""
        if checksum := found.checksum:
            if checksum.unit is None:
                algorithm = checksum.algorithm if found.size <= unit else ""
            elif UNIT_BYTES_MIN <= checksum.unit <= UNIT_BYTES_MAX:
                unit, algorithm = checksum.unit, checksum.algorithm
        return Version(
            bucket=self._location.bucket,
            key=self._location.key,
            etag=found.etag,
            size=found.size,
            unit=unit,
            algorithm=algorithm,
        )

    async def _fetch_all(self, partial: Partial, found: Found) -> None:
        for _ in range(PASSES):
            parts = cut(found.size, partial.version.unit)
            missing = [part for part in parts if part.number not in partial.done]
            await share_out(
                missing, self._config.parallel_parts, lambda part: self._fetch(partial, part)
            )
            if found.checksum is None or await self._digest(partial, found.checksum):
                return
            await self._disk.run(lambda _: partial.start_over())
        raise Corrupt

    async def _fetch(self, partial: Partial, part: Part) -> None:
        digest = await persist(
            lambda: self._threads.run(lambda stop: fetch_part(self._wire, partial, part, stop))
        )
        await self._disk.run(lambda _: partial.note(part, digest))

    async def _digest(self, partial: Partial, checksum: Checksum) -> bool:
        """Whether the parts add up."""
        size = partial.version.size
        digests = dict(partial.done)
        if partial.version.algorithm != checksum.algorithm:
            digests.clear()

            async def digest(part: Part) -> None:
                running = new_digest(checksum.algorithm)
                await self._disk.run(
                    lambda stop: read_through(partial.descriptor, part, stop, running)
                )
                digests[part.number] = running.digest()

            await share_out(cut(size, checksum.unit or size), self._config.parallel_parts, digest)
        in_order = [digests[number] for number in sorted(digests)]
        if checksum.unit is None:
            return in_order[0].hex() == checksum.digest
        return combine(checksum.algorithm, in_order) == checksum.digest


def fetch_part(wire: Wire, partial: Partial, part: Part, stop: Stop) -> bytes:
    """Fetch a part into its place, and return its digest, or nothing if none is wanted."""
    version = partial.version
    headers = {"If-Match": version.etag} if version.etag else {}
    ranged = part.size < version.size
    if ranged:
        headers["Range"] = f"bytes={part.offset}-{part.offset + part.size - 1}"
    request = Request(method="GET", bucket=version.bucket, key=version.key, headers=headers)
    running = new_digest(cast("Algorithm", version.algorithm)) if version.algorithm else None
    # A descriptor of our own: see `sections`.
    descriptor = os.dup(partial.descriptor)
    try:
        with wire.send(request, stop) as answer:
            begins = f"bytes {part.offset}-"
            if ranged and not answer.headers.get("content-range", "").startswith(begins):
                why = "it sends whole objects when a part is asked for; this cannot work"
                raise Refused(answer.status, RANGE_IGNORED, why)
            received = 0
            for block in answer.blocks():
                if received + len(block) > part.size:
                    raise Lost(f"the store sent more than the {part.size} bytes of a part")
                if running is not None:
                    running.update(block)
                _write(descriptor, block, part.offset + received)
                received += len(block)
        if received < part.size:
            raise Lost(f"the store ended its answer after {received} of {part.size} bytes")
    finally:
        os.close(descriptor)
    return running.digest() if running is not None else b""


def _write(descriptor: int, block: bytes, offset: int) -> None:
    view = memoryview(block)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
