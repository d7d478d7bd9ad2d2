"""A Docker engine's API over its UNIX socket, as plain requests and JSON.

The standard library is enough for the dozen calls of the lab, so `sudo deploy/lab/lab` runs with
the system's Python and nothing installed. The docker package would bring requests and urllib3 along
for the same lines, and adds defaults to service specs that tests of Swarm's behaviour must not
have. Paths go without a version: every engine understands its own.
"""

from __future__ import annotations

import http.client
import io
import json
import shutil
import socket
import struct
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlencode

from deploy.lab.errors import LabError

BAD_REQUEST, NOT_FOUND = 400, 404

TOLD_LINES = 20
"""Of what a build has said, when it fails."""

FRAME = struct.Struct(">BxxxL")


class EngineError(LabError):
    """The engine answered, and refused.

    Args:
        status: The HTTP status.
        message: The engine's own words.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"Docker refused: {message} ({status})")
        self.status = status
        self.message = message


class EngineUnreachable(LabError):
    """It does not answer."""


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a program that was run in a container.

    Args:
        exit_code: 0 if all is well.
        output: What it printed.
        errors: What it complained of.
    """

    exit_code: int
    output: str
    errors: str


class Engine:
    """The engine that listens at a socket.

    Args:
        path: Of the socket.
        timeout_s: Longest silence on the socket before a call is given up.
    """

    def __init__(self, path: Path, *, timeout_s: float = 30.0) -> None:
        self.path = path
        self._timeout_s = timeout_s

    def get(self, path: str, **query: Any) -> Any:
        """Read; a dict or list as a query's value is sent as JSON, as Docker wants its filters."""
        return self.call("GET", path, query=query)

    def post(self, path: str, body: Any = None, **query: Any) -> Any:
        """Change something."""
        return self.call("POST", path, body=body, query=query)

    def delete(self, path: str, **query: Any) -> Any:
        """Remove something."""
        return self.call("DELETE", path, query=query)

    def call(
        self, method: str, path: str, *, body: Any = None, query: dict[str, Any] | None = None
    ) -> Any:
        """Make one request and return the decoded answer, None for an empty one.

        Raises:
            EngineError: The engine's refusal.
            EngineUnreachable: No answer, or none in time.
        """
        content = None if body is None else json.dumps(body).encode()
        return self._exchange(method, path + _encode(query), content, "application/json")

    def load(self, archive: IO[bytes]) -> None:
        """Take in images from an archive as `docker save` writes them."""
        self._stream("/images/load?quiet=1", archive)

    def has_image(self, tag: str) -> bool:
        """Whether it has an image of that name."""
        try:
            self.get(f"/images/{tag}/json")
        except EngineError as error:
            if error.status == NOT_FOUND:
                return False
            raise
        return True

    def import_image(self, tree: IO[bytes], tag: str) -> None:
        """Make an image of an archive of a file tree."""
        name, _, version = tag.partition(":")
        query = _encode({"fromSrc": "-", "repo": name, "tag": version})
        self._stream("/images/create" + query, tree)

    def build(
        self,
        context: IO[bytes],
        tag: str,
        *,
        dockerfile: str,
        arguments: dict[str, str],
        fresh: bool = False,
    ) -> None:
        """Build an image without any network, by the builder that is in the engine itself.

        Args:
            context: An archive with the Dockerfile and what it copies.
            arguments: For its ARG instructions.
            fresh: Take no layer from an earlier build.
        """
        query = {
            "t": tag,
            "dockerfile": dockerfile,
            "buildargs": arguments,
            "networkmode": "none",
            "nocache": fresh,
            "forcerm": True,
        }
        self._stream("/build" + _encode(query), context)

    def save(self, tag: str, archive: IO[bytes]) -> None:
        """Write an image as `docker save` does."""
        self._exchange("GET", f"/images/{tag}/get", None, "application/json", into=archive)

    def execute(self, container: str, argv: Sequence[str]) -> Done:
        """Run a program in a container, as the container's own user, to its end."""
        order = {"Cmd": list(argv), "AttachStdout": True, "AttachStderr": True}
        started = self.post(f"/containers/{container}/exec", order)["Id"]
        said = io.BytesIO()
        content = json.dumps({"Detach": False, "Tty": False}).encode()
        self._exchange("POST", f"/exec/{started}/start", content, "application/json", into=said)
        output, errors = split_streams(said.getvalue())
        return Done(self.get(f"/exec/{started}/json")["ExitCode"], output, errors)

    def put(self, container: str, file: Path, directory: str, name: str) -> None:
        """Copy a file into a container, into a directory of a volume if the rest is read-only."""
        with tempfile.TemporaryFile() as archive:
            with tarfile.open(fileobj=archive, mode="w") as tar:
                entry = tar.gettarinfo(file, name)
                entry.uid = entry.gid = 0
                entry.mode = 0o644
                with file.open("rb") as content:
                    tar.addfile(entry, content)
            archive.seek(0)
            target = f"/containers/{container}/archive" + _encode({"path": directory})
            self._exchange("PUT", target, archive, "application/x-tar")

    def logs(self, container: str, *, lines: int | str = "all") -> str:
        """Return what a container without a terminal has written, the two streams as they came."""
        said = io.BytesIO()
        query = _encode({"stdout": True, "stderr": True, "tail": lines})
        target = f"/containers/{container}/logs{query}"
        self._exchange("GET", target, None, "application/json", into=said)
        pieces = (piece for _, piece in _read_frames(said.getvalue()))
        return b"".join(pieces).decode(errors="replace")

    def _stream(self, target: str, content: IO[bytes]) -> None:
        """Send an archive; what goes wrong is told in the answer's last line, its status is 200."""
        answer = self._exchange("POST", target, content, "application/x-tar")
        said = [line for line in (answer if isinstance(answer, list) else [answer]) if line]
        for line in said:
            if isinstance(line, dict) and "error" in line:
                before = "".join(str(one.get("stream", "")) for one in said[-TOLD_LINES:])
                raise EngineError(500, f"{line['error']}\n{before}")

    def answers(self) -> bool:
        """Whether it is there."""
        try:
            self._exchange("GET", "/_ping", None, "application/json")
        except LabError:
            return False
        return True

    def _exchange(
        self,
        method: str,
        target: str,
        content: bytes | IO[bytes] | None,
        kind: str,
        into: IO[bytes] | None = None,
    ) -> Any:
        connection = _UnixConnection(self.path, self._timeout_s)
        try:
            connection.request(
                method,
                target,
                body=content,
                headers={"Host": "docker", "Content-Type": kind},
            )
            answer = connection.getresponse()
            if into is not None and answer.status < BAD_REQUEST:
                shutil.copyfileobj(answer, into, 1 << 20)
            text = answer.read().decode(errors="replace").strip()
        except (OSError, http.client.HTTPException) as error:
            reason = error or type(error).__name__
            raise EngineUnreachable(f"No answer from Docker at {self.path}: {reason}") from error
        finally:
            connection.close()
        if answer.status >= BAD_REQUEST:
            raise EngineError(answer.status, _find_message(text))
        return _decode(text)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("docker", timeout=timeout_s, blocksize=1 << 20)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def split_streams(said: bytes) -> tuple[str, str]:
    """Take apart what an engine sends where there is no terminal: what was output, and errors."""
    frames = list(_read_frames(said))
    output, errors = (
        b"".join(piece for stream, piece in frames if stream == number) for number in (1, 2)
    )
    return output.decode(errors="replace"), errors.decode(errors="replace")


def _read_frames(said: bytes) -> Iterator[tuple[int, bytes]]:
    """Before each piece stand its stream and its length."""
    place = 0
    while place + FRAME.size <= len(said):
        stream, length = FRAME.unpack_from(said, place)
        place += FRAME.size + length
        yield stream, said[place - length : place]


def _encode(query: dict[str, Any] | None) -> str:
    if not query:
        return ""
    plain = {
        key: json.dumps(value) if isinstance(value, dict | list | bool) else value
        for key, value in query.items()
    }
    return "?" + urlencode(plain)


def _decode(text: str) -> Any:
    # One value, or a stream of them, a line each; `/_ping` says OK.
    try:
        return json.loads(text) if text else None
    except ValueError:
        pass
    try:
        return [json.loads(line) for line in text.splitlines()]
    except ValueError:
        return text


def _find_message(text: str) -> str:
    answer = _decode(text)
    return str(answer["message"]) if isinstance(answer, dict) and "message" in answer else text
