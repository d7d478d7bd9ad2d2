"""What can be set about telling administrators. Imports no client."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+._-]*://")


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifyConfig:
    """Who hears of tasks that wait for a person, besides `peerctl escalations`."""

    urls: tuple[str, ...] = field(default=(), metadata={"secret": True}, repr=False)
    # Addresses as apprise takes them, for mail, chat and web hooks:
    # mailtos://user:password@example.org?to=ops@example.org, slack://…, json://host/path. One that
    # takes a message is enough. They hold passwords, so better from a file (notify.urls_file), one
    # a line; a comma or a space in an address is written %2C or %20. None: nobody is told.
    interval_s: float = 300.0
    # The cluster speaks once in that time at most, and then of all that came meanwhile. The same
    # for every peer.

    def __post_init__(self) -> None:
        for number, url in enumerate(self.urls, start=1):
            if _SCHEME.match(url) is None:
                raise ValueError(
                    f"notify.urls: address {number} does not begin with a service, like mailto://"
                )
        if not 1.0 <= self.interval_s <= 86_400.0:
            raise ValueError("notify.interval_s must be 1 to 86400")
