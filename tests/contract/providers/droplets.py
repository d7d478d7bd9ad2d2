"""DigitalOcean's API as far as an order needs it, over real HTTP, for libcloud's own driver."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(slots=True)
class Droplets:
    """What there is, what was asked, and how the next requests are answered.

    Args:
        answer: Instead of the truth: status, headers, body.
        silent: Requests hang until it is set; None: they do not.
    """

    port: int = 0
    droplets: list[dict[str, Any]] = field(default_factory=list)
    orders: list[dict[str, Any]] = field(default_factory=list)
    answer: tuple[int, dict[str, str], bytes] | None = None
    silent: threading.Event | None = None


@contextmanager
def serve_droplets() -> Iterator[Droplets]:
    """Serve on loopback until the block ends."""
    world = Droplets()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._reply(200, {"droplets": world.droplets, "links": {}, "meta": {}})

        def do_POST(self) -> None:
            order = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            world.orders.append(order)
            droplet = {
                "id": len(world.orders),
                "name": order["name"],
                "status": "new",
                "created_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "networks": {"v4": [], "v6": []},
                "region": {"name": order["region"]},
                "tags": order["tags"],
            }
            if world.answer is None:
                world.droplets.append(droplet)
            self._reply(202, {"droplet": droplet})

        def do_DELETE(self) -> None:
            number = int(self.path.partition("?")[0].rpartition("/")[2])
            world.droplets = [one for one in world.droplets if one["id"] != number]
            self._reply(204, None)

        def _reply(self, status: int, body: Any) -> None:
            if world.silent is not None:
                world.silent.wait(20)
            headers: dict[str, str] = {}
            data = b"" if body is None else json.dumps(body).encode()
            if world.answer is not None:
                status, headers, data = world.answer
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    world.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield world
    finally:
        if world.silent is not None:
            world.silent.set()
        server.shutdown()
        thread.join()
        server.server_close()
