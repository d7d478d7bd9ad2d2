"""The files of a directory store, reached in a way that cannot be led out of its root.

Every path is walked from the root's descriptor, segment by segment, and no symbolic link is
followed. Resolving a path first and checking that it lies below the root is not the same: between
the check and the use anybody who may write below the root can put a link in the way. It also means
that a link somebody made on purpose is refused; the root itself may be one.

A file is complete before it has a name: it is made in `.incoming`, written to the disk, and then
renamed. Every method blocks, and raises OSError where nothing else is said.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from pipeline.errors import StoreUnavailable
from pipeline.stores.copying import Copy
from pipeline.stores.keys import RESERVED

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Not blocking, so that a pipe that lies where a file should be does not stop us for ever.
READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

NOT_LINKABLE = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.EACCES})
PUBLISH_TRIES = 20


class NoSuchObject(Exception):
    """There is nothing under this key."""


class Tree:
    """One root.

    Args:
        create: Make the root when it is missing. Without, a missing root is a disk that is not
            mounted, and nothing is written to where it should be.
    """

    def __init__(self, root: Path, *, create: bool) -> None:
        self._root = root
        self._create = create

    def begin_pull(self, segments: Sequence[str], target: Path) -> Copy:
        """Begin to copy an object to a new file.

        Raises:
            NoSuchObject: There is none of that name.
        """
        try:
            with self._folder(segments[:-1]) as folder:
                source = _open_file(segments[-1], READ | os.O_NOFOLLOW, folder)
        except FileNotFoundError as error:
            raise NoSuchObject from error
        try:
            return Copy(source, os.open(target, NEW, 0o666))
        except BaseException:
            os.close(source)
            raise

    def begin_push(self, source: Path, name: str) -> Copy:
        """Begin to copy a file into `.incoming`, under that name."""
        opened = _open_file(source, READ)
        try:
            with self._incoming() as incoming:
                return Copy(opened, os.open(name, NEW, 0o666, dir_fd=incoming))
        except BaseException:
            os.close(opened)
            raise

    def link(self, source: Path, name: str) -> bool:
        """Give the file a second name in `.incoming`; False where the file systems cannot."""
        if not stat.S_ISREG(source.lstat().st_mode):
            return False
        with self._incoming() as incoming:
            try:
                os.link(source, name, dst_dir_fd=incoming, follow_symlinks=False)
            except OSError as error:
                if error.errno in NOT_LINKABLE:
                    return False
                raise
        return True

    def write(self, content: bytes, name: str) -> None:
        """Make a small file in `.incoming`, under that name."""
        with self._incoming() as incoming:
            descriptor = os.open(name, NEW, 0o666, dir_fd=incoming)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)

    def read(self, segments: Sequence[str], size_max: int) -> bytes | None:
        """Read a small file, as far as that; None when there is none."""
        try:
            with self._folder(segments[:-1]) as folder:
                descriptor = _open_file(segments[-1], READ | os.O_NOFOLLOW, folder)
        except FileNotFoundError:
            return None
        with os.fdopen(descriptor, "rb") as file:
            return file.read(size_max)

    def publish(self, name: str, segments: Sequence[str]) -> None:
        """Bring a file of `.incoming` to the disk and rename it to be the object."""
        with self._incoming() as incoming:
            descriptor = os.open(name, READ | os.O_NOFOLLOW, dir_fd=incoming)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            for tries_left in reversed(range(PUBLISH_TRIES)):
                try:
                    with self._folder(segments[:-1], create=True) as folder:
                        os.replace(name, segments[-1], src_dir_fd=incoming, dst_dir_fd=folder)
                        os.fsync(folder)
                        return
                except FileNotFoundError:
                    # A folder that was just made or found is gone again: somebody removes objects
                    # beside ours, and the folders that are then empty.
                    if not tries_left:
                        raise

    def discard(self, name: str) -> None:
        """Remove what is left of a push in `.incoming`; what cannot be removed is swept later."""
        with suppress(OSError, StoreUnavailable), self._incoming() as incoming:
            os.unlink(name, dir_fd=incoming)

    def sweep(self, older_than_s: float) -> int:
        """Remove what pushes that never ended left in `.incoming`, and return how many."""
        before = time.time() - older_than_s
        removed = 0
        with self._incoming() as incoming:
            for name in os.listdir(incoming):  # noqa: PTH208 - by descriptor
                with suppress(FileNotFoundError):
                    # The change of the inode, not of the content: a linked file may be old.
                    if os.stat(name, dir_fd=incoming, follow_symlinks=False).st_ctime < before:
                        removed += _unlink(name, incoming)
        return removed

    def list(self, segments: Sequence[str]) -> list[tuple[str, int]]:
        """Key and size of the object of that name and of those below it, in any order."""
        found: list[tuple[str, int]] = []
        with suppress(FileNotFoundError), self._folder(segments[:-1]) as folder:
            top = segments[-1] if segments else "."
            if (size := _size(top, folder)) is not None:
                return [("/".join(segments), size)]
            walk = os.fwalk(top, onerror=_unless_gone, dir_fd=folder)
            for path, folders, files, descriptor in walk:
                inner = (*segments[:-1], *Path(path).parts)
                if not inner and RESERVED in folders:
                    folders.remove(RESERVED)
                for name in files:
                    if (size := _size(name, descriptor)) is not None:
                        found.append(("/".join((*inner, name)), size))
        return found

    def remove(self, segments: Sequence[str]) -> int:
        """Remove the object of that name and those below it, and the folders that are then empty.

        Returns:
            How many objects that were.
        """
        removed = 0
        with suppress(FileNotFoundError), self._folder(segments[:-1]) as folder:
            status = os.stat(segments[-1], dir_fd=folder, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                walk = os.fwalk(segments[-1], topdown=False, onerror=_unless_gone, dir_fd=folder)
                for _, folders, files, descriptor in walk:
                    removed += sum(_unlink(name, descriptor) for name in files)
                    for name in folders:
                        _remove_folder(name, descriptor)
                _remove_folder(segments[-1], folder)
            else:
                removed += _unlink(segments[-1], folder)
        for depth in range(len(segments) - 1, 0, -1):
            with suppress(FileNotFoundError), self._folder(segments[: depth - 1]) as folder:
                _remove_folder(segments[depth - 1], folder)
        return removed

    @contextmanager
    def _folder(self, segments: Sequence[str], *, create: bool = False) -> Iterator[int]:
        """Open a folder below the root, and make it first where that is asked for."""
        folder = self._open_root()
        try:
            for segment in segments:
                if create:
                    with suppress(FileExistsError):
                        os.mkdir(segment, dir_fd=folder)
                        os.fsync(folder)
                inner = _open_folder(segment, folder)
                os.close(folder)
                folder = inner
            yield folder
        finally:
            os.close(folder)

    def _incoming(self) -> AbstractContextManager[int]:
        return self._folder([RESERVED], create=True)

    def _open_root(self) -> int:
        try:
            if self._create:
                self._root.mkdir(parents=True, exist_ok=True)
            return os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise StoreUnavailable(
                f"the store's directory {self._root} cannot be entered ({error.strerror}): "
                "is its disk mounted, and may this user enter it?",
                definite=True,
            ) from error


def _open_file(path: str | Path, flags: int, folder: int | None = None) -> int:
    descriptor = os.open(path, flags, dir_fd=folder)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise IsADirectoryError(errno.EISDIR, "It is not a file")


def _open_folder(name: str, folder: int) -> int:
    try:
        return os.open(name, FOLDER, dir_fd=folder)
    except NotADirectoryError:
        if stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            raise OSError(errno.ELOOP, f"{name!r} is a symbolic link") from None
        raise


def _size(name: str, folder: int) -> int | None:
    """The size of a file; None when it is none, or no more."""
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _unlink(name: str, folder: int) -> int:
    """Remove a file and count it; a link, a pipe and the like are removed and do not count."""
    size = _size(name, folder)
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)
    return 0 if size is None else 1


def _remove_folder(name: str, folder: int) -> None:
    """Remove a folder if it is empty; a link to one in any case."""
    try:
        os.rmdir(name, dir_fd=folder)
    except FileNotFoundError:
        pass
    except NotADirectoryError:
        os.unlink(name, dir_fd=folder)
    except OSError as error:
        # Somebody has just stored something in it, which is their right.
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


def _unless_gone(error: OSError) -> None:
    """Pass over what somebody else removed while we walked."""
    if not isinstance(error, FileNotFoundError):
        raise error
