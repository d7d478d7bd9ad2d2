"""The object store on S3: the port's methods.

`blame` says in the port's errors what goes wrong below. Whose problem it is that an object is
refused is found out here, by asking: one bad object must not make the peers stop working for all.
"""

from __future__ import annotations

import os
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar

from pipeline.errors import BadRequest
from pipeline.ports import ReportCopied, StoredObject
from pipeline.stores.keys import FOLDERS, MARK, RESERVED, is_key, parse_key, parse_prefix
from pipeline.stores.locations import SCHEME, Location, is_location, parse_location
from pipeline.stores.s3 import uploads
from pipeline.stores.s3.blame import Blame, ObjectRefused
from pipeline.stores.s3.bucket import PAGE, Bucket
from pipeline.stores.s3.config import S3Config, is_bucket_name
from pipeline.stores.s3.credentials import find_credentials
from pipeline.stores.s3.crew import SHORT, persist
from pipeline.stores.s3.problems import Refused
from pipeline.stores.s3.pull import Pull
from pipeline.stores.s3.push import Push, Upload
from pipeline.stores.s3.threads import Stop, Threads
from pipeline.stores.s3.wire import Wire

T = TypeVar("T")

DAY_S = 24 * 60 * 60.0
UNFINISHED_MAX = 64
"""Broken-off uploads that are remembered; the oldest are left to the sweep."""
DISK_THREADS = 8
WHENEVER = datetime.max.replace(tzinfo=UTC)
"""Later than any upload was begun, also one that a store whose clock is ahead of ours tells of."""


class S3Store:
    """An `ObjectStore` in a bucket.

    Args:
        environment: Where credentials are looked for that the configuration does not have; None:
            this process's.

    Raises:
        ValueError: There is no endpoint, there are no credentials, or no such authorities.
    """

    def __init__(self, config: S3Config, *, environment: Mapping[str, str] | None = None) -> None:
        identity = find_credentials(config, os.environ if environment is None else environment)
        self._config = config
        self._wire = Wire(config, identity)
        self._bucket = Bucket(self._wire, config.bucket)
        self._blame = Blame(config.bucket, self._wire.endpoint)
        self._threads = Threads(config.connections)
        self._disk = Threads(DISK_THREADS)
        self._looks = Threads(1)
        self._prefix = "".join(f"{segment}/" for segment in parse_prefix(config.prefix))
        self._unfinished: OrderedDict[tuple[Location, Path], Upload] = OrderedDict()

    async def prepare(self) -> None:
        """Find out whether the bucket may be read and written; make it, if that is wanted.

        Nothing is left behind, not even in a bucket that keeps old versions.

        Raises:
            StoreUnavailable: It is not; the message says what to do.
        """
        with self._blame.reaching():
            if self._config.create_bucket:
                await self._ask(self._bucket.make)
            await self._ask_for_nothing()
            await self._ask(partial(self._bucket.try_out, self._name_of_nothing()))

    def close(self) -> None:
        """Close the connections that nobody uses."""
        self._wire.close()

    async def pull(self, key: str, target: Path) -> int:
        """As the port says. When the store goes away, what has come stays beside the target.

        A repeated call then continues. In every other case nothing is left.
        """
        location = self._locate(key)
        pull = Pull(
            self._wire, self._config, location, target, threads=self._threads, disk=self._disk
        )
        with self._blame.pulling(key, location):
            return await self._given(pull.run)

    async def size_of(self, key: str) -> int:
        """How large the object is, in bytes; nothing is fetched. Raises what `pull` raises."""
        location = self._locate(key)
        with self._blame.pulling(key, location):
            headers = await self._given(lambda: self._ask(partial(self._wire.look, location)))
        return int(headers.get("content-length", 0))

    async def push(
        self, source: Path, key: str, *, give: bool = False, report: ReportCopied | None = None
    ) -> None:
        """As the port says; nothing can be given to a bucket. A repeated call continues."""
        push = Push(
            self._wire,
            self._config,
            source,
            self._of(key),
            self._unfinished,
            threads=self._threads,
            disk=self._disk,
            report=report,
        )
        try:
            with self._blame.pushing(key):
                await push.run()
        finally:
            while len(self._unfinished) > UNFINISHED_MAX:
                self._unfinished.popitem(last=False)

    async def list(self, prefix: str) -> Sequence[StoredObject]:
        """As the port says; an object of just that name is one of those below it."""
        segments = parse_prefix(prefix)
        with self._blame.reaching():
            found = await self._find("/".join(segments))
        named = ((name.removeprefix(self._prefix), size) for name, size in sorted(found))
        return [
            StoredObject(key=key, size=size, url=self.url(key))
            for key, size in named
            if is_key(key)
        ]

    async def remove(self, prefix: str) -> int:
        """As the port says; uploads below the prefix that were not finished are removed too.

        Raises:
            BadRequest: The prefix is empty: nobody empties a store by leaving out a word.
        """
        segments = parse_prefix(prefix)
        if not segments:
            raise BadRequest("an empty prefix would remove everything in the store; name a folder")
        name = "/".join(segments)
        with self._blame.reaching():
            await self._abort_pending(f"{name}/", WHENEVER)
            names = [name for name, _ in await self._find(name)]
            for first in range(0, len(names), PAGE):
                some = names[first : first + PAGE]
                await self._ask(partial(self._bucket.delete, some))
        # Some programs, and some servers, make folders: they go too, and are no objects.
        return sum(not name.endswith("/") for name in names)

    async def sweep(self, older_than_s: float = DAY_S) -> int:
        """Abort the multipart uploads of ours that were begun longer ago than that.

        A bucket may be shared even without a prefix: those outside of the cluster's own folders
        are other people's, and may well take days.
        """
        before = datetime.now(UTC) - timedelta(seconds=older_than_s)
        with self._blame.reaching():
            return sum(
                [await self._abort_pending(f"{name}/", before) for name in (*FOLDERS, RESERVED)]
            )

    async def read_mark(self) -> bytes | None:
        """Read what says whose store this is: see `pipeline.marking`.

        In a thread of its own, so as not to wait until others have moved their films.
        """
        with self._blame.reaching():
            read = partial(self._bucket.read, self._name_of_mark())
            return await self._ask(read, self._looks)

    async def write_mark(self, content: bytes) -> None:
        """Write it, whole or not at all."""
        with self._blame.reaching():
            await self._ask(partial(self._bucket.write, self._name_of_mark(), content))

    def url(self, key: str) -> str:
        """`s3://bucket/key`; with an empty key the bucket's, or the prefix's in it."""
        below = self._prefix + "/".join(parse_prefix(key))
        return f"{SCHEME}{self._config.bucket}/{below}"

    def _of(self, key: str) -> Location:
        return Location(self._config.bucket, self._prefix + "/".join(parse_key(key)))

    def _locate(self, key: str) -> Location:
        if not is_location(key):
            return self._of(key)
        location = parse_location(key)
        if not is_bucket_name(location.bucket):
            raise BadRequest(f"{location.bucket!r} is no name of a bucket")
        return location

    async def _ask(self, work: Callable[[Stop], T], threads: Threads | None = None) -> T:
        """Do a few short requests, again if need be."""
        within_s = SHORT * self._config.read_timeout_s
        return await persist(lambda: (threads or self._threads).run(work, within_s=within_s))

    async def _given(self, get: Callable[[], Awaitable[T]]) -> T:
        """Get an object, or find out whose problem it is that it is refused.

        It is the object's if the store gives us no trouble otherwise and refuses it once more: a
        single refusal may also come from one of several servers that is not well.

        Raises:
            ObjectRefused: It is.
            Problem: It is not, or nobody has refused anything.
        """
        try:
            return await get()
        except Refused as refused:
            if not refused.doubtful:
                raise
        await self._ask_for_nothing()
        try:
            return await get()
        except Refused as refused:
            if not refused.doubtful:
                raise
            raise ObjectRefused(refused) from refused

    async def _ask_for_nothing(self) -> None:
        """Ask our bucket for what is not there: only who may read and list it is told so."""
        await self._ask(partial(self._bucket.look, self._name_of_nothing()))

    def _name_of_nothing(self) -> str:
        return f"{self._prefix}{RESERVED}/{secrets.token_hex(8)}"

    def _name_of_mark(self) -> str:
        return self._prefix + "/".join(MARK)

    async def _find(self, prefix: str) -> Sequence[tuple[str, int]]:
        """Names and sizes of the object of just that name and of all below it, in no order."""
        name = self._prefix + prefix
        found = [] if not prefix else await self._ask(lambda stop: self._bucket.look(name, stop))
        below = f"{name}/" if prefix else name
        last, full = "", True
        while full:
            page = await self._ask(partial(self._bucket.page, below, last))
            found += page
            full = len(page) == PAGE
            last = page[-1][0] if page else ""
        return found

    async def _abort_pending(self, below: str, before: datetime) -> int:
        below = self._prefix + below
        pending = await self._ask(lambda stop: self._bucket.pending(below, before, stop))
        aborted = 0
        for each in pending:
            location, upload_id = each.location, each.upload_id
            aborted += await self._ask(partial(uploads.abort, self._wire, location, upload_id))
        return aborted
