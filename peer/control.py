"""The control socket: how `peerctl` talks to the peer of its machine.

JSON lines over a UNIX socket that only its owner may open. One request a connection:

    {"command": "task", "arguments": {"id": "3f2a"}}

answered by any number of `{"item": …}` lines and one last line, `{"ok": true, "data": …}` or
`{"ok": false, "error": "one sentence", "kind": "failed" | "usage" | "not_found"}`.

HTTP over the same socket would be the obvious thing; its client costs peerctl more start-up time
than the rest of a command together (notes/deps.md, part 6), and streams need a framing of their own
there too.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import trio

from peer.errors import CommandFailed, FailureKind, PeerError
from peer.paths import socket_address
from pipeline.errors import BadRequest, NoSuchTask, NotAllowed, PipelineError

log = logging.getLogger(__name__)

REQUEST_BYTES_MAX = 256 * 1024
REQUEST_WAIT_S = 10.0
CONNECTIONS_MAX = 64

SendItem = Callable[[Any], Awaitable[None]]
Command = Callable[[Mapping[str, Any], SendItem], Awaitable[Any]]
"""Takes the arguments and a way to send items; returns the data of the last line."""


class ControlServer:
    """Serves commands on a UNIX socket until cancelled.

    Args:
        path: Where to listen; what a dead peer left there is replaced, so the caller must hold the
            peer's own lock.
        commands: By name.
    """

    def __init__(self, path: Path, commands: Mapping[str, Command]) -> None:
        self._path = path
        self._commands = commands
        self._connections = trio.Semaphore(CONNECTIONS_MAX)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen, report started, and serve."""
        self._path.unlink(missing_ok=True)
        listening = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
        with listening:
            with socket_address(self._path) as address:
                await listening.bind(address)
            self._path.chmod(0o600)  # its directory is 0700, so nobody came in between
            listening.listen(CONNECTIONS_MAX)
            listener = trio.SocketListener(listening)
            try:
                async with trio.open_nursery() as nursery:
                    await nursery.start(trio.serve_listeners, self._serve, [listener])
                    task_status.started()
            finally:
                self._path.unlink(missing_ok=True)

    async def _serve(self, stream: trio.SocketStream) -> None:
        """Answer one connection; whatever its other end does, the peer goes on."""
        async with stream, self._connections:
            try:
                with trio.fail_after(REQUEST_WAIT_S):
                    request = await _receive_line(stream)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_until_closed, stream, nursery.cancel_scope)
                    await _send(stream, await self._answer(request, stream))
                    nursery.cancel_scope.cancel()
            except* (trio.BrokenResourceError, trio.TooSlowError, _BadRequestLine) as group:
                log.debug("connection ended", extra={"action": "control", "error": str(group)})

    async def _answer(self, request: bytes, stream: trio.SocketStream) -> dict[str, Any]:
        """Run the command that the request names; return the last line."""

        async def send_item(item: Any) -> None:
            await _send(stream, {"item": msgspec.to_builtins(item)})

        try:
            command, arguments = self._parse(request)
            data = msgspec.to_builtins(await command(arguments, send_item))
        except (PipelineError, PeerError, msgspec.ValidationError) as error:
            return _refusal(error, _kind(error))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise  # nobody is there to be answered
        except Exception:
            # A bug in one command must not take the peer and its work with it.
            log.exception("a command broke", extra={"action": "control"})
            return _refusal("an internal error; the peer's log has the details", "failed")
        return {"ok": True, "data": data}

    def _parse(self, request: bytes) -> tuple[Command, Mapping[str, Any]]:
        try:
            fields = json.loads(request)
        except (ValueError, RecursionError) as error:
            raise BadRequest(f"the request is not JSON: {error}") from error
        if not isinstance(fields, dict) or not isinstance(fields.get("command"), str):
            raise BadRequest('the request has no "command"')
        arguments = fields.get("arguments", {})
        if not isinstance(arguments, dict):
            raise BadRequest('"arguments" is not an object')
        command = self._commands.get(fields["command"])
        if command is None:
            known = ", ".join(sorted(self._commands))
            raise BadRequest(f"no command {fields['command']!r}; this peer knows {known}")
        return command, arguments


class _BadRequestLine(Exception):
    """The connection ended, or ran on, before there was a whole line."""


async def _receive_line(stream: trio.SocketStream) -> bytes:
    received = bytearray()
    while b"\n" not in received:
        if len(received) > REQUEST_BYTES_MAX:
            raise _BadRequestLine(f"no line end within {REQUEST_BYTES_MAX} bytes")
        chunk = await stream.receive_some()
        if not chunk:
            raise _BadRequestLine("the connection ended in the middle of a request")
        received += chunk
    return bytes(received)


async def _until_closed(stream: trio.SocketStream, answering: trio.CancelScope) -> None:
    """Stop answering somebody who has gone; a stream of events would never notice by itself."""
    with suppress(trio.BrokenResourceError):
        while await stream.receive_some():
            pass
    answering.cancel()


async def _send(stream: trio.SocketStream, line: dict[str, Any]) -> None:
    await stream.send_all(json.dumps(line, separators=(",", ":")).encode() + b"\n")


def _kind(error: Exception) -> FailureKind:
    match error:
        case CommandFailed():
            return error.kind
        case NoSuchTask():
            return "not_found"
        case NotAllowed():
            return "failed"
        case BadRequest() | msgspec.ValidationError():
            return "usage"
    return "failed"


def _refusal(error: Exception | str, kind: str) -> dict[str, Any]:
    return {"ok": False, "error": str(error), "kind": kind}
