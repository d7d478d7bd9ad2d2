"""The person's end of the control socket: find a peer, ask it, read its answer.

The standard library's socket and nothing else: `import trio` alone would cost half of the 0.3 s
that a command may take. Blocking calls are right here, because the process has nothing else to do
and Ctrl-C ends it.
"""

from __future__ import annotations

import errno
import json
import os
import shlex
import socket
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from peer.errors import BadAnswer, CommandFailed, FailureKind, NoPeer
from peer.machine import default_data_dir
from peer.paths import Places, socket_address
from peer.protocol import LINE_BYTES_MAX
from peer.terminal import program

CONNECT_TIMEOUT_S = 2.0
"""A local connection is taken at once unless the peer is frozen or overrun."""

ANSWER_TIMEOUT_S = 30.0
"""The peer answers or says why not within its statement timeout; streams may be silent longer."""


class Peer:
    """A peer by its control socket. Each call is a connection of its own.

    Args:
        answer_timeout_s: How long `ask` waits, for those who cannot wait as long as a person can.
    """

    def __init__(self, path: Path, *, answer_timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        self.path = path
        self._answer_timeout_s = answer_timeout_s

    def ask(self, command: str, **arguments: Any) -> Any:
        """Send a request and return its data, as JSON values.

        Raises:
            CommandFailed: The peer says no.
            NoPeer: It is gone.
            BadAnswer: What it sent is not the protocol, or nothing came in time.
        """
        answer = None
        for answer in self._exchange(command, arguments, self._answer_timeout_s):
            if "item" not in answer:
                return answer.get("data")
        raise BadAnswer(f"the peer at {self.path} hung up without an answer to {command!r}")

    def follow(self, command: str, **arguments: Any) -> Iterator[Any]:
        """Send a request and yield its items and at last its data, as they come.

        The last value is always the data. Closing the iterator ends the command.

        Raises:
            CommandFailed: The peer says no, at once or later.
            NoPeer: It is gone.
            BadAnswer: What it sent is not the protocol, or it hung up half way.
        """
        for answer in self._exchange(command, arguments, None):
            if "item" not in answer:
                yield answer.get("data")
                return
            yield answer["item"]
        raise BadAnswer(
            f"the peer at {self.path} stopped while {command!r} was going on; "
            "the work goes on as soon as a peer runs"
        )

    def gather(self, command: str, **arguments: Any) -> list[Any]:
        """Send a request and return its items, where they come at once.

        Raises:
            CommandFailed, NoPeer, BadAnswer: As `ask`.
        """
        items: list[Any] = []
        for answer in self._exchange(command, arguments, self._answer_timeout_s):
            if "item" not in answer:
                return items
            items.append(answer["item"])
        raise BadAnswer(f"the peer at {self.path} hung up in the middle of {command!r}")

    def _exchange(
        self, command: str, arguments: dict[str, Any], answer_timeout_s: float | None
    ) -> Iterator[dict[str, Any]]:
        request = {"command": command, "arguments": arguments}
        try:
            with closing(connect(self.path)) as connection:
                connection.sendall(json.dumps(request).encode() + b"\n")
                connection.settimeout(answer_timeout_s)
                with connection.makefile("rb") as lines:
                    while line := lines.readline(LINE_BYTES_MAX):
                        yield _checked(line, self.path)
        except TimeoutError as error:
            raise BadAnswer(
                f"the peer at {self.path} did not answer {command!r} "
                f"within {answer_timeout_s or CONNECT_TIMEOUT_S:g} s"
            ) from error
        except OSError as error:
            raise NoPeer(f"the connection to {self.path} broke: {error.strerror}") from error


def _checked(line: bytes, path: Path) -> dict[str, Any]:
    if not line.endswith(b"\n"):
        why = "is too long" if len(line) == LINE_BYTES_MAX else "breaks off"
        raise BadAnswer(f"the peer at {path} sent a line that {why}")
    try:
        answer = msgspec.json.decode(line)
    except msgspec.DecodeError as error:
        raise BadAnswer(f"the peer at {path} sent a line that is not JSON: {error}") from error
    match answer:
        case {"item": _} | {"ok": True}:
            return dict(answer)
        case {"ok": False, "error": str(message)}:
            kind: FailureKind = "failed"
            if answer.get("kind") in ("usage", "not_found"):
                kind = answer["kind"]
            raise CommandFailed(message, kind)
    raise BadAnswer(f"the peer at {path} sent something that is not an answer")


def connect(path: Path) -> socket.socket:
    """Connect to a control socket.

    Raises:
        OSError: Nobody listens there, or it is not ours to use.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(CONNECT_TIMEOUT_S)
        with socket_address(path) as address:
            connection.connect(address)
    except BaseException:
        connection.close()
        raise
    return connection


def find_peer(places: Places, *, socket_path: Path | None, name: str | None) -> Peer:
    """Choose the peer to talk to: the named socket, the named peer, or the first that answers.

    Raises:
        NoPeer: Nobody answers; the message says how to start a peer.
    """
    if socket_path is not None:
        candidates: Sequence[Path] = [socket_path]
        where = f"at {socket_path}"
    elif name is not None:
        candidates = [places.peer(name).control_socket]
        where = f"as {name!r} in {places.data_dir}"
    else:
        candidates = [peer.control_socket for peer in places.peers()]
        where = f"in {places.data_dir}"
    answering, refused = _answering(candidates)
    if answering:
        return Peer(answering[0])
    if name is not None:
        others, _ = _answering([peer.control_socket for peer in places.peers()], all_of_them=True)
        if others:
            names = ", ".join(path.parent.name for path in others)
            raise NoPeer(f"no peer answers {where}{refused}; these do: {names}")
    raise NoPeer(f"no peer answers {where}{refused}; start one with: {start_command(places)}")


def _answering(candidates: Sequence[Path], *, all_of_them: bool = False) -> tuple[list[Path], str]:
    """Which sockets somebody listens at, the first one or all; and what was refused, in words."""
    answering, refused = [], ""
    for path in candidates:
        try:
            connect(path).close()
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM):
                refused = f" ({path} belongs to another user)"
        else:
            answering.append(path)
            if not all_of_them:
                break
    return answering, refused


def start_command(places: Places) -> str:
    """What a person types to start a peer that these settings would find."""
    usual = default_data_dir(os.environ)
    where = "" if places.data_dir == usual else f" --data-dir {shlex.quote(str(places.data_dir))}"
    return f"{program('peer')}{where}"
