"""The object store as a directory: on this machine, or on a disk that several machines share.

File work blocks, so it runs in threads, under a limit of its own: a slow disk must not use up the
threads that others wait for. What the files look like, and why no key leads out of the root, is in
`tree`; how a copy can be cancelled is in `copying`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn, TypeVar

import trio

from pipeline.errors import BadRequest, PullFailed, PushFailed, StoreUnavailable
from pipeline.ports import ReportCopied, StoredObject
from pipeline.stores.copying import Copy, SourceChanged
from pipeline.stores.keys import MARK, is_key, parse_key, parse_prefix
from pipeline.stores.locations import SCHEME, is_location, parse_location
from pipeline.stores.reasons import BROKEN, PERMANENT, explain
from pipeline.stores.tree import NoSuchObject, Tree

T = TypeVar("T")

DAY_S = 24 * 60 * 60.0
MARK_BYTES_MAX = 4096


class DirectoryStore:
    """An `ObjectStore` in a directory.

    Files and folders get the modes that the process's umask leaves them: who lets others read the
    outputs (a web server, say) runs the peers with a umask of 022, or 027 and a group.

    Args:
        root: The directory.
        create: Make it when it is missing; with false a missing root is a disk that is not
            mounted, and every call raises `StoreUnavailable`.
        threads: How many file operations may run at once.
    """

    def __init__(self, root: Path, *, create: bool = True, threads: int = 4) -> None:
        self._root = root
        self._tree = Tree(root, create=create)
        self._limiter = trio.CapacityLimiter(threads)
        self._looking = trio.CapacityLimiter(1)

    async def pull(self, key: str, target: Path) -> int:
        """As the port says. The target is removed again when the call fails or is cancelled."""
        if is_location(key):
            there = parse_location(key)
            raise BadRequest(
                f"{SCHEME}{there.bucket}/{there.key} cannot be fetched: this store is a directory "
                f"({self._root}) and speaks no S3; set store.s3.endpoint, or submit the file itself"
            )
        segments = parse_key(key)
        with _pulling(key):
            copy = await self._run(lambda: self._tree.begin_pull(segments, target))
            complete = False
            try:
                size = await self._copy(copy)
                complete = True
            finally:
                if not complete:
                    with trio.CancelScope(shield=True):
                        await self._run(lambda: target.unlink(missing_ok=True))
        return size

    async def push(
        self, source: Path, key: str, *, give: bool = False, report: ReportCopied | None = None
    ) -> None:
        """As the port says. A folder of the same name as the object makes it fail."""
        segments = parse_key(key)
        name = secrets.token_hex(16)
        with _pushing(key):
            try:
                if not (give and await self._run(lambda: self._tree.link(source, name))):
                    copy = await self._run(lambda: self._tree.begin_push(source, name))
                    await self._copy(copy, report)
                # In one thread, so that a cancelled call has published it or never will.
                await self._run(lambda: self._tree.publish(name, segments))
            finally:
                with trio.CancelScope(shield=True):
                    await self._run(lambda: self._tree.discard(name))

    async def list(self, prefix: str) -> Sequence[StoredObject]:
        """As the port says; an object of just that name is one of those below it."""
        segments = parse_prefix(prefix)
        with _reaching(f"list {prefix!r}"):
            found = await self._run(lambda: self._tree.list(segments))
        return [
            StoredObject(key=key, size=size, url=str(self._root / key))
            for key, size in sorted(found)
            if is_key(key)
        ]

    async def remove(self, prefix: str) -> int:
        """As the port says; an object of just that name is one of those below it.

        Raises:
            BadRequest: The prefix is empty: nobody empties a store by leaving out a word.
        """
        segments = parse_prefix(prefix)
        if not segments:
            raise BadRequest("an empty prefix would remove everything in the store; name a folder")
        with _reaching(f"remove {prefix!r}"):
            return await self._run(lambda: self._tree.remove(segments))

    def url(self, key: str) -> str:
        """The object's path; with an empty key the root's."""
        return str(self._root.absolute().joinpath(*parse_prefix(key)))

    async def sweep(self, older_than_s: float = DAY_S) -> int:
        """Remove what killed peers left of their pushes, and return how many files that were.

        Call it at the start. It must not meet pushes that are still going on, hence the day.
        """
        with _reaching("sweep"):
            return await self._run(lambda: self._tree.sweep(older_than_s))

    async def read_mark(self) -> bytes | None:
        """Read what says whose store this is: see `pipeline.marking`.

        A disk whose server is gone may hold the thread for ever. It is left behind then, and
        nobody looks until it comes back.
        """
        with _reaching("read its mark"):
            return await trio.to_thread.run_sync(
                lambda: self._tree.read(MARK, MARK_BYTES_MAX),
                limiter=self._looking,
                abandon_on_cancel=True,
            )

    async def write_mark(self, content: bytes) -> None:
        """Write it, whole or not at all."""
        name = secrets.token_hex(16)
        with _reaching("be marked"):
            try:
                await self._run(lambda: self._tree.write(content, name))
                await self._run(lambda: self._tree.publish(name, MARK))
            finally:
                with trio.CancelScope(shield=True):
                    await self._run(lambda: self._tree.discard(name))

    async def _copy(self, copy: Copy, report: ReportCopied | None = None) -> int:
        try:
            while await self._run(copy.step):
                if report is not None:
                    await report(copy.copied)
            return await self._run(copy.finish)
        finally:
            # In a thread too: closing a file on a network disk may wait for the network.
            with trio.CancelScope(shield=True):
                await self._run(copy.close)

    async def _run(self, work: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(work, limiter=self._limiter)


@contextmanager
def _pulling(key: str) -> Iterator[None]:
    try:
        yield
    except NoSuchObject as error:
        raise PullFailed(
            f"there is no object {key!r} in the store", code="no_such_object", permanent=True
        ) from error
    except SourceChanged as error:
        raise PullFailed(f"{key!r} changed while it was read", code="source_changed") from error
    except OSError as error:
        if error.errno in BROKEN:
            _raise_broken(f"read {key!r}", error, definite=True)
        code, reason = explain(error)
        raise PullFailed(
            f"{key!r} cannot be fetched: {reason}", code=code, permanent=code in PERMANENT
        ) from error


@contextmanager
def _pushing(key: str) -> Iterator[None]:
    try:
        yield
    except SourceChanged as error:
        raise PushFailed(
            f"{key!r} cannot be stored: the file changed while it was read", code="source_changed"
        ) from error
    except OSError as error:
        if error.errno in BROKEN:
            _raise_broken(f"write {key!r}", error, definite=False)
        code, reason = explain(error)
        raise PushFailed(
            f"{key!r} cannot be stored: {reason}", code=code, permanent=code in PERMANENT
        ) from error


@contextmanager
def _reaching(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        _raise_broken(what, error, definite=False)


def _raise_broken(what: str, error: OSError, *, definite: bool) -> NoReturn:
    raise StoreUnavailable(
        f"the store cannot {what}: {error.strerror}", definite=definite
    ) from error
