"""A Docker engine's API over its UNIX socket, as plain requests and JSON.

The standard library is enough for the dozen calls of the lab, so `sudo deploy/lab/lab` runs with
the system's Python and nothing installed. The docker package would bring requests and urllib3 along
for the same lines, and adds defaults to service specs that tests of Swarm's behaviour must not
have. Paths go without a version: every engine understands its own.
"""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlencode

from deploy.lab.errors import LabError


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
        # Unlike everything else this one's answer is 200 also when it fails.
        answer = self._exchange("POST", "/images/load?quiet=1", archive, "application/x-tar")
        for line in answer if isinstance(answer, list) else [answer]:
            if isinstance(line, dict) and "error" in line:
                raise EngineError(500, line["error"])

    def answers(self) -> bool:
        """Whether it is there."""
        try:
            self._exchange("GET", "/_ping", None, "application/json")
        except LabError:
            return False
        return True

    def _exchange(
        self, method: str, target: str, content: bytes | IO[bytes] | None, kind: str
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
            text = answer.read().decode(errors="replace").strip()
        except (OSError, http.client.HTTPException) as error:
            reason = error or type(error).__name__
            raise EngineUnreachable(f"No answer from Docker at {self.path}: {reason}") from error
        finally:
            connection.close()
        if answer.status >= 400:
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
