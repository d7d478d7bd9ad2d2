"""Signed requests to an S3 server: one pool of connections, our timeouts, and no silent retries.

Every method blocks. A body is sent block by block from a file and an answer is read block by block,
so memory does not depend on the size of either. Nothing is repeated here: whoever knows what a
repeat costs does that.
"""

from __future__ import annotations

import hashlib
import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol
from urllib.parse import urlsplit, urlunsplit
from xml.etree.ElementTree import ParseError

import minio
import urllib3
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError
from minio.helpers import BaseURL
from minio.signer import sign_v4_s3
from minio.time import to_amz_date
from urllib3.exceptions import HTTPError

from pipeline.stores.locations import Location
from pipeline.stores.s3.config import S3Config
from pipeline.stores.s3.credentials import Identity
from pipeline.stores.s3.pace import keep_pace
from pipeline.stores.s3.problems import Lost, Problem, Refused, line_trouble, refusal
from pipeline.stores.s3.threads import Stop

REGION = "us-east-1"
SEND_BYTES = 64 * 1024
READ_BYTES = 256 * 1024
ANSWER_BYTES_MAX = 4 * 1024 * 1024
"""Of an answer that is read whole."""
OK = frozenset({200, 204, 206})


class Source(Protocol):
    """**Protocol**: a body that is read while it is sent."""

    @property
    def size(self) -> int:
        """In bytes."""
        ...

    @property
    def sha256(self) -> str:
        """Of all of it, in hexadecimal digits; the server checks it with the signature."""
        ...

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes; none at the end."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request; `read_timeout_s` is for answers that take longer than usual (see `pace`)."""

    method: str
    bucket: str
    key: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Source = b""
    read_timeout_s: float | None = None


class Answer:
    """A good answer whose body has not been read yet."""

    def __init__(self, answer: urllib3.BaseHTTPResponse) -> None:
        self._answer = answer
        self.status = answer.status
        self.headers = {name.lower(): value for name, value in answer.headers.items()}

    def blocks(self) -> Iterator[bytes]:
        """The body as it comes, exactly as it is stored."""
        while block := self._answer.read1(READ_BYTES, decode_content=False):
            yield block

    def text(self) -> bytes:
        """All of a short body; what is too long for one is cut."""
        content = bytearray()
        for block in self.blocks():
            content += block
            if len(content) > ANSWER_BYTES_MAX:
                break
        return bytes(content)


class Wire:
    """A store's endpoint.

    Args:
        identity: Who we are; asked before every request.
    """

    def __init__(self, config: S3Config, identity: Identity) -> None:
        if config.endpoint is None:
            raise ValueError("store.s3.endpoint is not set")
        self.endpoint = config.endpoint.rstrip("/")
        self._identity = identity
        self._connect_timeout_s = config.connect_timeout_s
        self._read_timeout_s = config.read_timeout_s
        self._base = BaseURL(self.endpoint, config.region)
        self._region = self._base.region or REGION
        self._http = urllib3.PoolManager(
            maxsize=config.connections,
            timeout=urllib3.Timeout(connect=config.connect_timeout_s, read=config.read_timeout_s),
            retries=False,
            blocksize=SEND_BYTES,
            ssl_context=_trust(config) if self._base.is_https else None,
        )
        keep_pace(self._http)
        url = urlsplit(self.endpoint)
        self.client = minio.Minio(
            url.netloc,
            credentials=identity,
            secure=self._base.is_https,
            region=self._region,
            http_client=self._http,
        )
        """minio's own client over the same connections; to be used inside of `translated`."""
        if config.style != "auto":
            self._base.virtual_style_flag = config.style == "virtual"
            # minio leaves the types of these two open.
            if self._base.virtual_style_flag:
                self.client.enable_virtual_style_endpoint()  # type: ignore[no-untyped-call]
            else:
                self.client.disable_virtual_style_endpoint()  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Close the connections that nobody uses now."""
        self._http.clear()

    @contextmanager
    def send(self, request: Request, stop: Stop) -> Iterator[Answer]:
        """Send a request and give its answer, if that is a good one, to be read inside the context.

        Raises:
            Refused: It is not.
            Lost: There is none, or not all of it.
        """
        read_timeout_s = request.read_timeout_s or self._read_timeout_s
        with self.translated():
            stop.check()
            url, headers = self._sign(request)
            answer = self._http.urlopen(
                request.method,
                url,
                body=request.body,
                headers=headers,
                redirect=False,
                preload_content=False,
                decode_content=False,
                timeout=urllib3.Timeout(connect=self._connect_timeout_s, read=read_timeout_s),
            )
            in_order = False
            try:
                with stop.watching(answer):
                    good = Answer(answer)
                    if answer.status not in OK:
                        raise _refused(request, good)
                    yield good
                    in_order = True
            except Refused:
                in_order = True
                raise
            finally:
                if in_order and _read_to_its_end(answer):
                    answer.release_conn()
                else:
                    answer.close()

    def ask(self, request: Request, stop: Stop) -> tuple[Mapping[str, str], bytes]:
        """Send a request and read its whole answer: its headers and its body. Raises as `send`."""
        with self.send(request, stop) as answer:
            return answer.headers, answer.text()

    def look(
        self, location: Location, stop: Stop, query: Mapping[str, str] | None = None
    ) -> Mapping[str, str]:
        """Read an object's headers; their names are in lower case. Raises as `send`."""
        bucket, key = location.bucket, location.key
        try:
            request = Request(method="HEAD", bucket=bucket, key=key, query=query or {})
            return self.ask(request, stop)[0]
        except Refused:
            # An answer to HEAD has no room for a reason; an answer to this has.
            first = {"Range": "bytes=0-0"}
            self.ask(Request(method="GET", bucket=bucket, key=key, headers=first), stop)
            raise

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn the libraries' errors into problems of ours."""
        try:
            yield
        except Problem:
            raise
        except S3Error as error:
            known = {name.lower(): value for name, value in error.response.headers.items()}
            region = known.get("x-amz-bucket-region", "")
            raise Refused(
                error.response.status, error.code or "", error.message or "", region
            ) from error
        except ServerError as error:
            raise Refused(error.status_code, f"HTTP{error.status_code}", str(error)) from error
        except (InvalidResponseError, ParseError) as error:
            # A proxy or another kind of server has answered, for now.
            raise Refused(502, "NotS3", str(error)[:200]) from error
        except HTTPError as error:
            raise line_trouble(error, self.endpoint) from error
        except MinioException as error:
            raise Refused(500, type(error).__name__, str(error)[:200]) from error

    def _sign(self, request: Request) -> tuple[str, dict[str, str]]:
        """The URL and the headers of a request that is made now."""
        who, now, body = self._identity.retrieve(), datetime.now(UTC), request.body
        url = self._base.build(
            method=request.method,
            region=self._region,
            bucket_name=request.bucket,
            object_name=request.key or None,
            query_params=dict(request.query),
        )
        if isinstance(body, bytes):
            size, sha256 = len(body), hashlib.sha256(body).hexdigest()
        else:
            size, sha256 = body.size, body.sha256
        headers = {
            **request.headers,
            "Host": url.netloc,
            "User-Agent": "grapevine",
            "x-amz-content-sha256": sha256,
            "x-amz-date": to_amz_date(now),
        }
        if request.method in ("PUT", "POST"):
            headers["Content-Length"] = str(size)
        if who.session_token:
            headers["X-Amz-Security-Token"] = who.session_token
        sign_v4_s3(
            method=request.method,
            url=url,
            region=self._region,
            # Its type allows for several values of one header, so a dict of texts is not one.
            headers=headers,  # type: ignore[arg-type]
            credentials=who,
            content_sha256=sha256,
            date=now,
        )
        return urlunsplit(url), headers


def _refused(request: Request, answer: Answer) -> Refused:
    refused = refusal(answer.status, answer.headers, answer.text())
    if refused.missing_object and request.method == "PUT":
        # A server with real folders: somebody removed ours at that moment.
        return Refused(503, "NoSuchFolder", refused.message)
    return refused


def _trust(config: S3Config) -> ssl.SSLContext:
    """Whom we believe: the given authorities, else those of the system."""
    try:
        return ssl.create_default_context(cafile=config.ca_file and os.fspath(config.ca_file))
    except OSError as error:
        raise ValueError(
            f"store.s3.ca_file: {config.ca_file} has no certificates that can be read "
            f"({error.strerror or error}); it must be a PEM file"
        ) from error


def _read_to_its_end(answer: urllib3.BaseHTTPResponse) -> bool:
    """Whether the connection can serve the next request; a last block of nothing is fetched."""
    with suppress(HTTPError, OSError, Lost):
        return not answer.read1(1, decode_content=False)
    return False
