"""The broker's management API, for the one number that the protocol does not tell.

It is a plug-in, on a port of its own, and asked by HTTP in a thread. Its numbers are collected by
the broker every five seconds, so what it says of a moment ago may not be so any more.
"""

from __future__ import annotations

import logging
import re
import ssl
from collections.abc import Collection
from functools import partial
from urllib.parse import quote, urlencode

import trio
import urllib3

from pipeline.queues.rabbitmq.config import MANAGEMENT_PORTS, Endpoint, RabbitConfig

log = logging.getLogger(__name__)

TIMEOUT = urllib3.Timeout(connect=1.0, read=3.0)
ABSENT_S = 60.0
"""After it was not found on its usual port, how long it is not looked for."""


class Management:
    """Asks it, where it is. Errors are no answer: nothing depends on it."""

    def __init__(self, config: RabbitConfig) -> None:
        self._config = config
        self._absent_until = -1.0
        self._limiter = trio.CapacityLimiter(1)

    async def unacknowledged(self, broker: Endpoint, queues: Collection[str]) -> int | None:
        """How many messages of these queues are in somebody's hands; None where it is not known."""
        if trio.current_time() < self._absent_until:
            return None
        url = self._config.management_url or _usual_url(broker, secure=self._config.broker.secure)
        try:
            return await trio.to_thread.run_sync(
                partial(_ask, self._config, url, queues),
                limiter=self._limiter,
                abandon_on_cancel=True,
            )
        except (urllib3.exceptions.HTTPError, OSError, ValueError, KeyError, TypeError) as error:
            self._absent_until = trio.current_time() + ABSENT_S
            if self._config.management_url is not None:
                log.warning(
                    "the management API does not answer",
                    extra={"action": "ask_management", "url": url, "error": str(error)},
                )
            return None


def _usual_url(broker: Endpoint, *, secure: bool) -> str:
    scheme = "https" if secure else "http"
    return f"{scheme}://{Endpoint(broker.host, MANAGEMENT_PORTS[scheme])}"


def _ask(config: RabbitConfig, url: str, queues: Collection[str]) -> int:
    user, password = config.credentials
    query = urlencode(
        {
            "page": 1,
            "page_size": 100,
            "use_regex": "true",
            "name": f"^{re.escape(config.prefix)}\\.",
            "columns": "name,messages_unacknowledged",
        }
    )
    host = quote(config.broker.virtual_host, safe="")
    trust = ssl.create_default_context(cafile=config.ca_file) if url.startswith("https") else None
    with urllib3.PoolManager(retries=False, timeout=TIMEOUT, ssl_context=trust) as http:
        answer = http.request(
            "GET",
            f"{url.rstrip('/')}/api/queues/{host}?{query}",
            headers=urllib3.make_headers(basic_auth=f"{user}:{password}"),
        )
    if answer.status != 200:
        raise ValueError(f"it answered {answer.status}")
    found = {
        each["name"]: each.get("messages_unacknowledged", 0) for each in answer.json()["items"]
    }
    return sum(int(found[name]) for name in queues)
