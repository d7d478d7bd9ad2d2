"""What can be set about a store on S3, in one place, with what each value does.

Nothing here imports minio: `peerctl` reads its settings in a few milliseconds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pipeline.errors import BadRequest
from pipeline.stores.keys import parse_prefix

SECRET = {"secret": True}
"""Field metadata: the value may also come from a file that is named, and is never printed."""

MIB = 1024 * 1024
PART_BYTES_MIN = 5 * MIB
"""S3 takes no smaller part, except as the last one."""
PART_BYTES_MAX = 1024 * MIB

BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Config:
    """A bucket, who we are there, and how its bytes are moved."""

    endpoint: str | None = None
    # https://host[:port] or http://host[:port]. None: the store is a directory.
    bucket: str = "grapevine"
    # Where sources that were submitted as files, and all outputs, lie. `s3://…` sources may lie in
    # any bucket of the same endpoint that the credentials may read.
    prefix: str = ""
    # Before every key of ours, so that a bucket can be shared. Empty: none.
    region: str | None = None
    # None: the one in an AWS endpoint's name, else us-east-1, which is what most others want.
    style: Literal["auto", "path", "virtual"] = "auto"
    # `path`: https://host/bucket/key; `virtual`: https://bucket.host/key; `auto`: virtual at AWS.
    create_bucket: bool = False
    # Make the bucket at the start if it is missing. For labs: a wrong name then makes a new one.
    access_key: str | None = field(default=None, metadata=SECRET, repr=False)
    secret_key: str | None = field(default=None, metadata=SECRET, repr=False)
    session_token: str | None = field(default=None, metadata=SECRET, repr=False)
    # Who we are. None: credentials_file, else what AWS's own programs take from the environment:
    # AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, or the file of
    # AWS_SHARED_CREDENTIALS_FILE.
    credentials_file: Path | None = None
    # In the format of ~/.aws/credentials. It is read again for every request, so whoever renews
    # the credentials only has to replace the file.
    profile: str = "default"
    # The section of that file.
    ca_file: Path | None = None
    # Certificates of those that may sign for the endpoint. None: those of the system.
    part_bytes: int = 16 * MIB
    # Larger objects go in parts of this size; a lost line costs one part.
    parallel_parts: int = 4
    # How many parts of one object move at once.
    connections: int = 16
    # How many requests this peer has in flight at most, each in a thread.
    connect_timeout_s: float = 5.0
    # Also for every 64 KiB that are sent.
    read_timeout_s: float = 30.0
    # How long the store may be silent, or send less than 64 KiB, before the request is given up.

    def __post_init__(self) -> None:
        for objection in (*self._of_the_place(), *self._of_the_credentials(), *self._of_the_ways()):
            raise ValueError(f"store.s3: {objection}")

    def _of_the_place(self) -> list[str]:
        objections = []
        if self.endpoint is not None and (objection := _objection_to_endpoint(self.endpoint)):
            objections.append(objection)
        if not is_bucket_name(self.bucket):
            objections.append(
                f"bucket {self.bucket!r} is no name of a bucket: it must have 3 to 63 lower-case "
                "letters, digits, dots and dashes"
            )
        try:
            parse_prefix(self.prefix)
        except BadRequest as error:
            objections.append(f"prefix: {error}")
        if self.region is not None and not re.fullmatch(r"[A-Za-z0-9-]{1,63}", self.region):
            objections.append(f"region {self.region!r} must be a word such as us-east-1")
        if self.style not in ("auto", "path", "virtual"):
            objections.append(f"style {self.style!r} must be auto, path or virtual")
        return objections

    def _of_the_credentials(self) -> list[str]:
        objections = []
        if (self.access_key is None) != (self.secret_key is None):
            objections.append("access_key and secret_key go together; set both or none")
        if self.session_token is not None and self.access_key is None:
            objections.append("session_token needs access_key and secret_key")
        if self.credentials_file is not None and self.access_key is not None:
            objections.append("access_key and credentials_file exclude each other; leave one out")
        return objections

    def _of_the_ways(self) -> list[str]:
        limits = (
            ("part_bytes", self.part_bytes, PART_BYTES_MIN, PART_BYTES_MAX),
            ("parallel_parts", self.parallel_parts, 1, 32),
            ("connections", self.connections, 1, 256),
            ("connect_timeout_s", self.connect_timeout_s, 0.1, 300),
            ("read_timeout_s", self.read_timeout_s, 0.1, 300),
        )
        return [
            f"{name} must be {low} to {high}"
            for name, value, low, high in limits
            if not low <= value <= high
        ]


def is_bucket_name(name: str) -> bool:
    """Whether a bucket can have this name, by the rules that all servers share."""
    joints = ("..", ".-", "-.")
    is_address = re.fullmatch(r"[0-9]+(\.[0-9]+){3}", name) is not None
    return bool(BUCKET.fullmatch(name)) and not is_address and not any(j in name for j in joints)


def _objection_to_endpoint(endpoint: str) -> str | None:
    try:
        url = urlsplit(endpoint)
        host, _ = url.hostname, url.port
    except ValueError as error:
        return f"endpoint {endpoint!r} is no URL: {error}"
    if url.scheme not in ("http", "https") or not host:
        return f"endpoint {endpoint!r} must be https://host[:port] or http://host[:port]"
    if url.username is not None:
        return "endpoint must not hold credentials; use access_key and secret_key"
    if url.path.strip("/") or url.query or url.fragment:
        return f"endpoint {endpoint!r} must end after the host; the bucket is a setting of its own"
    return None
