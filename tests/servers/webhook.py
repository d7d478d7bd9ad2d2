"""A web hook for tests: takes JSON by POST, or answers with another status, and keeps it.

Threads, for its clients are not all async; loopback only.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast


@dataclass(frozen=True, slots=True, kw_only=True)
class Posted:
    """One request; `fields` is its body."""

    path: str
    fields: dict[str, Any]


class WebHook(ThreadingHTTPServer):
    """Listens on a port of its own once it is made.

    Args:
        status: Of its answers, from now on.
        silent: Answers nothing before it is released, while that is so.
    """

    daemon_threads = True

    def __init__(self, *, status: int = 200, silent: bool = False) -> None:
        self.status = status
        self.silent = silent
        self.released = threading.Event()
        self.posted: list[Posted] = []
        super().__init__(("127.0.0.1", 0), _Request)

    @contextmanager
    def running(self) -> Iterator[WebHook]:
        """Answer, until the end of the block."""
        thread = threading.Thread(target=self.serve_forever, args=[0.01])
        thread.start()
        try:
            yield self
        finally:
            self.released.set()
            self.shutdown()
            thread.join()
            self.server_close()


class _Request(BaseHTTPRequestHandler):
    timeout = 10

    def do_POST(self) -> None:
        hook = cast("WebHook", self.server)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        hook.posted.append(Posted(path=self.path, fields=json.loads(body)))
        if hook.silent:
            hook.released.wait()
        self.send_response(hook.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""
