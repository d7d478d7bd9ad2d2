"""Multipart uploads as the server knows them: begun, fed, completed, aborted, listed.

Every function is one request and blocks. Nobody sees an object before its upload is completed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from xml.sax.saxutils import escape

import urllib3
from minio.datatypes import ListMultipartUploadsResult

from pipeline.stores.locations import Location
from pipeline.stores.s3.problems import Lost, Refused, element, refusal
from pipeline.stores.s3.threads import Stop
from pipeline.stores.s3.wire import Request, Source, Wire

NOT_LISTABLE = frozenset({"NotImplemented", "MethodNotAllowed", "HTTP501", "HTTP405"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """An upload that was begun and neither completed nor aborted."""

    location: Location
    upload_id: str
    begun_at: datetime | None


def begin(wire: Wire, location: Location, headers: Mapping[str, str], stop: Stop) -> str:
    """Begin an upload and return its id."""
    _, body = wire.ask(
        Request(
            method="POST",
            bucket=location.bucket,
            key=location.key,
            query={"uploads": ""},
            headers=headers,
        ),
        stop,
    )
    if not (upload_id := element(body, "UploadId")):
        raise Lost("the store began an upload and did not say which")
    return upload_id


def send_part(
    wire: Wire, location: Location, upload_id: str, *, number: int, body: Source, stop: Stop
) -> str:
    """Send one part and return its ETag."""
    headers, _ = wire.ask(
        Request(
            method="PUT",
            bucket=location.bucket,
            key=location.key,
            query={"uploadId": upload_id, "partNumber": str(number)},
            body=body,
        ),
        stop,
    )
    if not (etag := headers.get("etag", "")):
        raise Lost("the store took a part and gave no ETag for it")
    return etag


def complete(
    wire: Wire,
    location: Location,
    upload_id: str,
    etags: Mapping[int, str],
    stop: Stop,
    *,
    within_s: float,
) -> None:
    """Make the parts an object. A server may take a while, and may fail with a good status."""
    parts = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(etags[number])}</ETag></Part>"
        for number in sorted(etags)
    )
    headers, body = wire.ask(
        Request(
            method="POST",
            bucket=location.bucket,
            key=location.key,
            query={"uploadId": upload_id},
            headers={"Content-Type": "application/xml"},
            body=f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode(),
            read_timeout_s=within_s,
        ),
        stop,
    )
    if element(body, "Code"):
        raise refusal(500, headers, body)


def is_pending(wire: Wire, location: Location, upload_id: str, stop: Stop) -> bool:
    """Whether the server still knows an upload. Some forget them after a day."""
    query = {"uploadId": upload_id, "max-parts": "1"}
    request = Request(method="GET", bucket=location.bucket, key=location.key, query=query)
    try:
        wire.ask(request, stop)
    except Refused as refused:
        if refused.status != 404:
            raise
        return False
    return True


def abort(wire: Wire, location: Location, upload_id: str, stop: Stop) -> bool:
    """Forget an upload and its parts; False when there was none any more."""
    try:
        wire.ask(
            Request(
                method="DELETE",
                bucket=location.bucket,
                key=location.key,
                query={"uploadId": upload_id},
            ),
            stop,
        )
    except Refused as refused:
        if refused.status != 404:
            raise
        return False
    return True


def list_pending(wire: Wire, bucket: str, prefix: str, stop: Stop) -> Iterator[Pending]:
    """Uploads below a prefix (a beginning of their keys), as far as the server tells.

    MinIO tells only of the key that is the prefix, and clears the others away by itself. Of more
    than a thousand uploads to one key some are left out; they come when the others are gone.
    """
    marker: str | None = ""
    while marker is not None:
        query = {"uploads": "", "prefix": prefix, "max-uploads": "1000", "encoding-type": "url"}
        if marker:
            query["key-marker"] = marker
        try:
            _, body = wire.ask(Request(method="GET", bucket=bucket, query=query), stop)
        except Refused as refused:
            if refused.code in NOT_LISTABLE:
                return
            raise
        with wire.translated():
            listed = ListMultipartUploadsResult(urllib3.HTTPResponse(body))
        for upload in listed.uploads:
            yield Pending(
                location=Location(bucket, upload.object_name),
                upload_id=upload.upload_id or "",
                begun_at=upload.initiated_time,
            )
        marker = (listed.next_key_marker or None) if listed.is_truncated else None
