"""Getting out of the store what a task has made: into a directory, or as a tar through a pipe.

The names come from another process, so none is believed to stay within the directory.
"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import click

from peer.client import Peer
from peer.commands.session import JSON, Session, example, print_json, shaped, talks_to_peer
from peer.commands.tasks import ID
from peer.errors import BadAnswer, CommandFailed
from peer.protocol import FetchedBytes, FetchedFile
from pipeline.tasks import TaskState

PIPE = "-"
LATEST = "latest"


@click.command(
    epilog=example("peerctl fetch 3f2a films/holiday"),
    short_help="Copy what a task has made out of the store.",
)
@ID
@click.argument("directory", required=False, type=click.Path(file_okay=False, allow_dash=True))
@JSON
@talks_to_peer
def fetch(session: Session, *, id: str, directory: str | None, as_json: bool) -> None:
    """Copy what a task has made out of the store, through a peer.

    ID is the task's id, or enough of its beginning to be unambiguous; `latest` is the newest task
    that is done.

    DIRECTORY is made if it is not there; by default it is called like the task's id. Files of the
    same names are replaced, each when it has come whole. A hyphen: a tar on standard output, for a
    pipe out of a container:

    \b
      docker exec CONTAINER peerctl fetch 3f2a - | tar -x
    """
    if as_json and directory == PIPE:
        raise click.UsageError("--json and a tar cannot both go to standard output")
    peer = session.peer()
    task_id = _latest(peer) if id == LATEST else str(peer.ask("task", id=id)["id"])
    parcel = Parcel(peer.follow("fetch", id=task_id))
    if directory == PIPE:
        if sys.stdout.isatty():
            raise click.UsageError("a tar is nothing for a terminal: put `| tar -x` behind it")
        return _pack(parcel, task_id[:8], sys.stdout.buffer)
    into = Path(directory or task_id[:8])
    try:
        files = _unpack(parcel, into)
    except OSError as error:
        raise CommandFailed(f"cannot write {error.filename or into}: {error.strerror}") from error
    if as_json:
        return print_json({"id": task_id, "directory": str(into.absolute()), "files": files})
    for name in files:
        click.echo(into / name)
    return None


def _latest(peer: Peer) -> str:
    done = peer.ask("tasks", state=TaskState.DONE.value, limit=1)
    if not done:
        raise CommandFailed("no task is done yet")
    return str(done[0]["id"])


class Parcel(io.RawIOBase):
    """Files as they come: `next_file` begins one, and then this reads it to its end and no further.

    Args:
        answers: What `Peer.follow` yields for `fetch`.
    """

    def __init__(self, answers: Iterator[Any]) -> None:
        super().__init__()
        self._answers = answers
        self._left = 0
        self._piece = memoryview(b"")

    def next_file(self) -> FetchedFile | None:
        """Begin the next file; None when there are no more.

        Raises:
            BadAnswer: The one before has not ended, or what comes is no file's beginning.
            CommandFailed: The peer could not go on.
        """
        answer = next(self._answers)
        if isinstance(answer, dict) and "files" in answer:
            return None
        file = shaped(FetchedFile, answer)
        name = PurePosixPath(file.name)
        if name.is_absolute() or ".." in name.parts or not name.parts:
            raise BadAnswer(f"the peer sends a file called {file.name!r}, which is not taken")
        self._left = file.size
        return file

    def readable(self) -> bool:
        """It is for reading."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read some bytes of the present file; 0 at its end."""
        if not self._piece and self._left:
            content = shaped(FetchedBytes, next(self._answers)).content
            if not 0 < len(content) <= self._left:
                raise BadAnswer("the peer sends more of a file than it has said")
            self._left -= len(content)
            self._piece = memoryview(content)
        count = min(len(buffer), len(self._piece))
        buffer[:count] = self._piece[:count]
        self._piece = self._piece[count:]
        return count


def _unpack(parcel: Parcel, into: Path) -> list[str]:
    names: list[str] = []
    into.mkdir(parents=True, exist_ok=True)
    while file := parcel.next_file():
        target = into / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        coming = target.with_name(f".{target.name}.coming")
        try:
            with coming.open("wb") as opened:
                while piece := parcel.read(1 << 20):
                    opened.write(piece)
            coming.replace(target)
        finally:
            coming.unlink(missing_ok=True)
        names.append(file.name)
    return names


def _pack(parcel: Parcel, directory: str, out: BinaryIO) -> None:
    import tarfile

    content = io.BufferedReader(parcel)  # for whoever wants as many bytes as he asks for
    with tarfile.open(fileobj=out, mode="w|") as tar:
        while file := parcel.next_file():
            entry = tarfile.TarInfo(f"{directory}/{file.name}")
            entry.size, entry.mtime = file.size, int(time.time())
            tar.addfile(entry, content)
