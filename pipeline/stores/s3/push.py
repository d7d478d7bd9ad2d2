"""From a file to the store: hashed in parallel, sent in parallel, visible all at once.

The file is read twice: the checksum that is kept with an object has to be said before its bytes,
and so has the SHA-256 of each request's body, which is signed and which the server checks. Both
come from the same first reading, which goes with the speed of memory since the file is a new one.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path

import trio

from pipeline.ports import ReportCopied
from pipeline.stores.copying import SourceChanged
from pipeline.stores.locations import Location
from pipeline.stores.s3 import uploads
from pipeline.stores.s3.checksums import HEADER, Crc32, checksum_of
from pipeline.stores.s3.config import S3Config
from pipeline.stores.s3.content_types import content_type
from pipeline.stores.s3.crew import SHORT, persist, share_out
from pipeline.stores.s3.parts import OBJECT_BYTES_MAX, Part, cut, unit_for
from pipeline.stores.s3.problems import Problem, Refused
from pipeline.stores.s3.sections import Section, read_through
from pipeline.stores.s3.threads import Stop, Threads
from pipeline.stores.s3.wire import Request, Wire

ABORT_S = 3.0
"""For telling the store that nobody wants the upload; if it does not hear it, a sweep will."""
COMPLETING = 10
"""How many times longer than for anything else we wait for an upload's completion."""


class TooLarge(Exception):
    """The file is larger than any object may be."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What is the same as long as a file is not written to."""

    device: int
    inode: int
    size: int
    modified_ns: int


@dataclass(slots=True, kw_only=True)
class Upload:
    """A multipart upload that is going on, or was broken off and may be continued."""

    upload_id: str
    of: Fingerprint
    unit: int
    sha256s: Mapping[int, str]
    checksum: str
    etags: dict[int, str] = field(default_factory=dict)


Unfinished = MutableMapping[tuple[Location, Path], Upload]
"""Uploads that were broken off because the store was away."""


class Push:
    """One file on its way to one object.

    Args:
        threads: For requests; of these some may hang.
        disk: For files; these end soon.
    """

    def __init__(
        self,
        wire: Wire,
        config: S3Config,
        source: Path,
        location: Location,
        unfinished: Unfinished,
        *,
        threads: Threads,
        disk: Threads,
        report: ReportCopied | None,
    ) -> None:
        self._wire = wire
        self._config = config
        self._source = source
        self._location = location
        self._unfinished = unfinished
        self._threads = threads
        self._disk = disk
        self._report = report
        self._reporting = trio.Lock()
        self._sent = 0

    async def run(self) -> None:
        """Store it.

        Raises:
            Problem: The store would not, or could not.
            SourceChanged: Somebody writes to the file.
            TooLarge: No store takes it.
            OSError: Of the file.
        """
        descriptor = await self._disk.run(lambda _: _open(self._source))
        try:
            await self._push(descriptor)
        finally:
            os.close(descriptor)

    async def _push(self, descriptor: int) -> None:
        fingerprint = _fingerprint(descriptor)
        size = fingerprint.size
        if size > OBJECT_BYTES_MAX:
            raise TooLarge
        unit = unit_for(size, self._config.part_bytes)
        try:
            if size <= unit:
                await self._push_small(descriptor, size, unit)
            else:
                await self._push_parts(descriptor, fingerprint, unit)
        except Refused as refused:
            # The digests that the server misses are those of what the file was before.
            if refused.mismatch and _fingerprint(descriptor) != fingerprint:
                raise SourceChanged from refused
            raise

    async def _push_small(self, descriptor: int, size: int, unit: int) -> None:
        """One request, all or nothing."""
        whole = Part(1, 0, size)

        def send(stop: Stop) -> None:
            sha256, crc = _digests(descriptor, whole, stop)
            checksum = checksum_of(unit, [crc] if size else [])
            with Section(descriptor, whole, stop, sha256=sha256) as body:
                request = Request(
                    method="PUT",
                    bucket=self._location.bucket,
                    key=self._location.key,
                    headers=self._headers(checksum.header),
                    body=body,
                )
                self._wire.ask(request, stop)

        await persist(lambda: self._threads.run(send))
        await self._count(size)

    async def _push_parts(self, descriptor: int, fingerprint: Fingerprint, unit: int) -> None:
        where = (self._location, self._source)
        upload = self._unfinished.get(where)
        if upload is None or not await self._continues(upload, fingerprint, unit):
            upload = await self._begin(descriptor, fingerprint, unit)
        self._unfinished.pop(where, None)
        completed = kept = False
        try:
            await self._send_parts(descriptor, upload)
            if _fingerprint(descriptor) != fingerprint:
                raise SourceChanged
            await self._complete(upload)
            completed = True
        except Problem as problem:
            # Wrong bytes are no reason to go on with what is there.
            kept = problem.passing and not (isinstance(problem, Refused) and problem.mismatch)
            raise
        finally:
            if kept:
                self._unfinished[where] = upload
            elif not completed:
                await self._abort(upload)

    async def _continues(self, upload: Upload, fingerprint: Fingerprint, unit: int) -> bool:
        """Whether an upload that was broken off is of this file and still known to the store."""
        if (upload.of, upload.unit) != (fingerprint, unit):
            await self._abort(upload)
            return False
        return await persist(
            lambda: self._threads.run(
                lambda stop: uploads.is_pending(self._wire, self._location, upload.upload_id, stop),
                within_s=SHORT * self._config.read_timeout_s,
            )
        )

    async def _begin(self, descriptor: int, fingerprint: Fingerprint, unit: int) -> Upload:
        digests: dict[int, tuple[str, bytes]] = {}

        async def digest(part: Part) -> None:
            digests[part.number] = await self._disk.run(
                lambda stop: _digests(descriptor, part, stop)
            )

        await share_out(cut(fingerprint.size, unit), self._config.parallel_parts, digest)
        crcs = [digests[number][1] for number in sorted(digests)]
        checksum = checksum_of(unit, crcs).header
        upload_id = await persist(
            lambda: self._threads.run(
                lambda stop: uploads.begin(
                    self._wire, self._location, self._headers(checksum), stop
                ),
                within_s=SHORT * self._config.read_timeout_s,
            )
        )
        return Upload(
            upload_id=upload_id,
            of=fingerprint,
            unit=unit,
            sha256s={number: sha256 for number, (sha256, _) in digests.items()},
            checksum=checksum,
        )

    async def _send_parts(self, descriptor: int, upload: Upload) -> None:
        async def send(part: Part) -> None:
            sha256 = upload.sha256s[part.number]

            def send_part(stop: Stop) -> str:
                with Section(descriptor, part, stop, sha256=sha256) as body:
                    return uploads.send_part(
                        self._wire,
                        self._location,
                        upload.upload_id,
                        number=part.number,
                        body=body,
                        stop=stop,
                    )

            upload.etags[part.number] = await persist(lambda: self._threads.run(send_part))
            await self._count(part.size)

        parts = list(cut(upload.of.size, upload.unit))
        there = sum(part.size for part in parts if part.number in upload.etags)
        await self._count(there)
        await share_out(
            [part for part in parts if part.number not in upload.etags],
            self._config.parallel_parts,
            send,
        )

    async def _complete(self, upload: Upload) -> None:
        within_s = COMPLETING * self._config.read_timeout_s

        def complete(stop: Stop) -> None:
            uploads.complete(
                self._wire,
                self._location,
                upload.upload_id,
                upload.etags,
                stop,
                within_s=within_s,
            )

        try:
            await persist(lambda: self._threads.run(complete, within_s=2 * within_s))
        except Refused as refused:
            # It may have been completed before, by a request whose answer got lost.
            if refused.code != "NoSuchUpload" or not await self._is_there(upload):
                raise

    async def _is_there(self, upload: Upload) -> bool:
        try:
            headers = await persist(
                lambda: self._threads.run(lambda stop: self._wire.look(self._location, stop))
            )
        except Refused:
            return False
        return headers.get(HEADER) == upload.checksum

    async def _abort(self, upload: Upload) -> None:
        """Tell the store that the parts are nobody's. Whoever was cancelled waits for it too."""
        with trio.move_on_after(ABORT_S, shield=True):
            try:
                await self._threads.run(
                    lambda stop: uploads.abort(self._wire, self._location, upload.upload_id, stop)
                )
            except Problem:
                return  # a sweep will find it

    async def _count(self, size: int) -> None:
        """Report what is there now; one at a time, so that it never falls."""
        async with self._reporting:
            self._sent += size
            if self._report is not None and size:
                await self._report(self._sent)

    def _headers(self, checksum: str) -> dict[str, str]:
        return {"Content-Type": content_type(self._location.key), HEADER: checksum}


def _open(source: Path) -> int:
    # Not blocking, so that a pipe that lies where a file should be does not stop us for ever.
    descriptor = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise IsADirectoryError(errno.EISDIR, "It is not a file")


def _digests(descriptor: int, part: Part, stop: Stop) -> tuple[str, bytes]:
    """A part's SHA-256 in hexadecimal digits, and its CRC-32."""
    sha256, crc = hashlib.sha256(), Crc32()
    read_through(descriptor, part, stop, sha256, crc)
    return sha256.hexdigest(), crc.digest()


def _fingerprint(descriptor: int) -> Fingerprint:
    status = os.fstat(descriptor)
    return Fingerprint(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
