"""HTTP on a UNIX socket, as a Docker engine speaks it: JSON both ways, and a stream of events."""

from __future__ import annotations

import json
import os
import socket
import socketserver
import threading
import time
from collections.abc import Callable
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.servers.fake_swarm_records import EPOCH, Json

Route = Callable[[str, list[str], dict[str, str], Json], Any]
Events = Callable[[], tuple[list[Json], Callable[[], bool]]]

STEP_S = 0.005


class Problem(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Server:
    """Listens until it is closed; whoever is connected then is cut off, as by a dead engine.

    Args:
        date_s: What its clock shows, in virtual seconds.
        events: What has happened so far, a list that grows, and whether it is the end.
    """

    def __init__(
        self, path: Path, route: Route, date_s: Callable[[], float], events: Events
    ) -> None:
        self.path = path
        self._listener = _Listener(path, route, date_s, events)
        # Its own thread looks at the socket now and then; the rest of the time it sleeps.
        self._thread = threading.Thread(target=self._listener.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        """Stop, and wait for whoever is served."""
        self._listener.closing.set()
        self._listener.shutdown()
        self._thread.join()
        self._listener.cut_all()
        self._listener.server_close()
        self.path.unlink(missing_ok=True)


class _Listener(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = False
    block_on_close = True
    request_queue_size = 4096  # as a Docker engine's

    def __init__(
        self, path: Path, route: Route, date_s: Callable[[], float], events: Events
    ) -> None:
        self.route, self.date_s, self.events = route, date_s, events
        self.closing = threading.Event()
        self._open: set[socket.socket] = set()
        self._guard = threading.Lock()
        super().__init__(os.fspath(path), _Handler)

    def cut_all(self) -> None:
        """End all connections."""
        with self._guard:
            for connection in self._open:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue  # the other side was quicker

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._guard:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._guard:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is none; what else is wrong shows as an answer of 500."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Listener

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def _serve(self) -> None:
        url = urlsplit(self.path)
        path = [part for part in url.path.split("/") if part]
        if path and path[0].startswith("v1."):
            path = path[1:]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if path == ["events"]:
            self._stream()
            return
        try:
            answer = self.server.route(
                self.command, path, dict(parse_qsl(url.query)), json.loads(body or b"{}")
            )
        except Problem as problem:
            self._answer(problem.status, {"message": problem.message})
        except Exception as error:  # a mistake of ours must not look like a lost line
            self._answer(500, {"message": f"the fake is wrong: {error!r}"})
            raise
        else:
            self._answer(200, answer)

    def _answer(self, status: int, answer: Any) -> None:
        body = b"" if answer is None else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self) -> None:
        happened, is_over = self.server.events()
        told = len(happened)
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()
        while not (is_over() or self.server.closing.is_set()):
            for event in happened[told:]:
                line = json.dumps(event).encode() + b"\n"
                self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
                told += 1
            self.wfile.flush()
            time.sleep(STEP_S)
        self.close_connection = True

    def date_time_string(self, timestamp: float | None = None) -> str:
        """Virtual, as all times are that the managers tell."""
        return formatdate(EPOCH.timestamp() + self.server.date_s(), usegmt=True)

    def address_string(self) -> str:
        return "unix"

    def log_message(self, format: str, *args: Any) -> None:
        """Nobody reads it."""
