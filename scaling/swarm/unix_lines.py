"""The SDK's lines to a UNIX socket, closed where nobody takes them.

The SDK (7.2) forgets its socket when `connect` fails: because the engine has just ended, or because
its queue of callers is full. It stays open until somebody collects what is in cycles. The adapter,
its pool and its connection each make the next one themselves, so one method of each is replaced.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping

from docker.transport import UnixHTTPAdapter
from docker.transport.unixconn import UnixHTTPConnection, UnixHTTPConnectionPool


class UnixLines(UnixHTTPAdapter):
    """An adapter for `requests`, to be mounted in place of the SDK's."""

    def get_connection(
        self, url: str | bytes, proxies: Mapping[str, str] | None = None
    ) -> UnixHTTPConnectionPool:
        """Return the pool for a URL."""
        with self.pools.lock:
            pool: UnixHTTPConnectionPool | None = self.pools.get(url)
            if pool is None:
                pool = _Pool(str(url), self.socket_path, self.timeout, maxsize=self.max_pool_size)
                self.pools[url] = pool
        return pool


class _Pool(UnixHTTPConnectionPool):
    def _new_conn(self) -> _Connection:  # type: ignore[override]
        return _Connection(self.base_url, self.socket_path, self.timeout)  # type: ignore[arg-type]


class _Connection(UnixHTTPConnection):
    def connect(self) -> None:
        line = socket.socket(socket.AF_UNIX)
        try:
            line.settimeout(self.timeout)
            line.connect(self.unix_socket)
        except BaseException:
            line.close()
            raise
        self.sock = line
