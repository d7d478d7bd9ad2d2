"""The short requests to our own bucket: what is there, and away with it.

Every method blocks, raises `Refused` or `Lost`, and is safe to repeat.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import islice

from minio.deleteobjects import DeleteObject
from minio.error import S3Error

from pipeline.stores.locations import Location
from pipeline.stores.s3 import uploads
from pipeline.stores.s3.problems import Refused
from pipeline.stores.s3.threads import Stop
from pipeline.stores.s3.wire import Request, Wire

PAGE = 1000
"""How many names one request brings, or removes: S3's limit."""


class Bucket:
    """One bucket; names are whole, with the prefix that is ours."""

    def __init__(self, wire: Wire, name: str) -> None:
        self._wire = wire
        self._name = name

    def make(self, stop: Stop) -> None:
        """Make it, unless it is there."""
        listing = {"list-type": "2", "max-keys": "1", "prefix": ""}
        try:
            self._wire.ask(Request(method="GET", bucket=self._name, query=listing), stop)
        except Refused as refused:
            if refused.code != "NoSuchBucket":
                raise
            with self._wire.translated():
                self._make()

    def _make(self) -> None:
        try:
            self._wire.client.make_bucket(self._name)
        except S3Error as error:
            # Another peer was quicker.
            if error.code != "BucketAlreadyOwnedByYou":
                raise

    def try_out(self, name: str, stop: Stop) -> None:
        """Begin to write an object of that name, and leave nothing."""
        location = Location(self._name, name)
        upload_id = uploads.begin(self._wire, location, {}, stop)
        uploads.abort(self._wire, location, upload_id, stop)

    def look(self, name: str, stop: Stop) -> list[tuple[str, int]]:
        """The object of just that name with its size in bytes, if there is one."""
        try:
            headers = self._wire.look(Location(self._name, name), stop)
        except Refused as refused:
            if not refused.missing_object:
                raise
            return []
        return [(name, int(headers.get("content-length", 0)))]

    def read(self, name: str, stop: Stop) -> bytes | None:
        """All of a small object; None if there is none."""
        try:
            request = Request(method="GET", bucket=self._name, key=name)
            return self._wire.ask(request, stop)[1]
        except Refused as refused:
            if not refused.missing_object:
                raise
            return None

    def write(self, name: str, content: bytes, stop: Stop) -> None:
        """Make a small object, or replace it."""
        request = Request(method="PUT", bucket=self._name, key=name, body=content)
        self._wire.ask(request, stop)

    def page(self, below: str, after: str, stop: Stop) -> list[tuple[str, int]]:
        """Names that begin so and come after that one, with sizes; the next after these; or none.

        What is listed is asked for page by page, so that none needs more than a moment.
        """
        with self._wire.translated():
            stop.check()
            listing = self._wire.client.list_objects(
                self._name, prefix=below, recursive=True, start_after=after or None
            )
            return [
                (stored.object_name or "", stored.size or 0) for stored in islice(listing, PAGE)
            ]

    def delete(self, names: Sequence[str], stop: Stop) -> None:
        """Remove these; those that are gone already are no trouble."""
        with self._wire.translated():
            stop.check()
            doomed = [DeleteObject(name) for name in names]
            for error in self._wire.client.remove_objects(self._name, doomed):
                if error.code != "NoSuchKey":
                    status = 403 if error.code == "AccessDenied" else 500
                    raise Refused(status, error.code, error.message or "")

    def pending(self, below: str, before: datetime, stop: Stop) -> Sequence[uploads.Pending]:
        """Unfinished uploads to names that begin so, and that were begun before then.

        When an upload was begun is told by the store's clock.
        """
        listed = uploads.list_pending(self._wire, self._name, below, stop)
        return [each for each in listed if each.begun_at is None or each.begun_at <= before]
