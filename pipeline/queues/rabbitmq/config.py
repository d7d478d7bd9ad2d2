"""What can be set about RabbitMQ, and how its URL is read. Imports no client.

A URL names the user, the hosts and the virtual host in one text, as everybody writes it for AMQP
and as libpq writes several hosts: `amqps://user:secret@rabbit-1,rabbit-2:5671/video`. Options in
the URL (`?heartbeat=…`), which each client names otherwise, are settings of their own here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

PORTS = {"amqp": 5672, "amqps": 5671}
MANAGEMENT_PORTS = {"http": 15672, "https": 15671}

_PREFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a broker listens."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerUrl:
    """A URL, taken apart; user and password are None where it has none."""

    secure: bool
    endpoints: tuple[Endpoint, ...]
    virtual_host: str
    user: str | None
    password: str | None = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RabbitConfig:
    """RabbitMQ 3.10 or newer, where wake-ups wait; or, without a URL, the queue in the ledger."""

    url: str | None = field(default=None, metadata={"secret": True}, repr=False)
    # amqp://user:password@host:port/virtual_host, or amqps:// for TLS. Several hosts of one cluster
    # are separated by commas: any of them that answers is used. What is special in a user, a
    # password or a virtual host is written as %XX. None: the queue in the ledger's database.
    user: str | None = None
    password: str | None = field(default=None, metadata={"secret": True}, repr=False)
    # Instead of those in the URL: the password is then not in it, and can come from a file.
    ca_file: Path | None = None
    # Whom to trust with amqps://, PEM. None: whom this machine trusts.
    cert_file: Path | None = None
    key_file: Path | None = None
    # What this peer shows with amqps:// where the broker asks for a certificate, PEM. The key may
    # lie in the certificate's file.
    server_name: str | None = None
    # The name in the broker's certificate, where it is not the host in the URL.
    prefix: str = "grapevine"
    # What the names of all queues and exchanges begin with: clusters that share a virtual host have
    # one each.
    heartbeat_s: int = 10
    # A broker that was not heard for so long is given up, and so does the broker with this peer
    # after twice that.
    management_url: str | None = None
    # http://host:15672 of the management API, which alone knows how many messages are in somebody's
    # hands; asked with the same user and password. None: the usual port of the broker, if it
    # answers.

    def __post_init__(self) -> None:
        if self.url is None:
            given = [name for name in ("user", "password", "ca_file") if getattr(self, name)]
            if given:
                raise ValueError(f"queue.{given[0]} is given without queue.url; add the URL")
        else:
            self._check_url()
        if self.key_file is not None and self.cert_file is None:
            raise ValueError("queue.key_file is given without queue.cert_file; add the certificate")
        if not _PREFIX.fullmatch(self.prefix):
            raise ValueError(
                "queue.prefix: expected at most 63 letters, digits, dots, dashes and underscores"
            )
        if not 1 <= self.heartbeat_s <= 600:
            raise ValueError("queue.heartbeat_s: expected 1 to 600 seconds")
        if self.management_url is not None:
            _check_management(self.management_url)

    def _check_url(self) -> None:
        url = self.broker
        if not url.secure:
            for name in ("ca_file", "cert_file", "server_name"):
                if getattr(self, name) is not None:
                    raise ValueError(f"queue.{name} needs TLS; write queue.url with amqps://")
        for name in ("user", "password"):
            if getattr(url, name) is not None and getattr(self, name) is not None:
                raise ValueError(f"queue.{name} is also in queue.url; leave one of them out")
        if (url.user or self.user) and url.password is None and self.password is None:
            raise ValueError("queue.user has no password; add queue.password, or better a file")

    @property
    def broker(self) -> BrokerUrl:
        """The URL, taken apart. There must be one."""
        assert self.url is not None
        return parse_url(self.url)

    @property
    def credentials(self) -> tuple[str, str]:
        """User and password; RabbitMQ's own `guest`, who may only come from its machine, if none
        are given."""
        url = self.broker
        user, password = url.user or self.user, url.password or self.password
        return user or "guest", password or "guest"


def parse_url(text: str) -> BrokerUrl:
    """Take a broker's URL apart.

    Raises:
        ValueError: It is not one. The message says what is wrong and quotes nothing: where a
            password was not written as it must be, any piece may be one of it.
    """
    parts = _split(text, f"queue.url: it is not a URL; {_ENCODE}")
    if parts.scheme not in PORTS:
        raise ValueError("queue.url: expected amqp://… or amqps://…")
    if "@" in f"{parts.path}{parts.query}{parts.fragment}":
        raise ValueError(f"queue.url: there is an @ behind its hosts; {_ENCODE}")
    if parts.query or parts.fragment:
        raise ValueError("queue.url: options after ? or # are not read; they are settings")
    login, at, hosts = parts.netloc.rpartition("@")
    user, colon, password = login.partition(":")
    path = parts.path.removeprefix("/")
    if "/" in path:
        raise ValueError("queue.url: a slash in the virtual host is written as %2F")
    return BrokerUrl(
        secure=parts.scheme == "amqps",
        endpoints=tuple(_endpoints(hosts, PORTS[parts.scheme])),
        virtual_host=unquote(path) or "/",
        user=unquote(user) if at and user else None,
        password=unquote(password) if colon else None,
    )


_ENCODE = (
    "is every special character in user, password and virtual host written as %XX (/ as %2F, @ as"
    " %40)?"
)
_ENDPOINT = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::(\d{1,5}))?")


def _split(text: str, complaint: str) -> SplitResult:
    try:
        return urlsplit(text)
    except ValueError:  # it quotes what it does not like
        raise ValueError(complaint) from None


def _endpoints(hosts: str, usual_port: int) -> Iterator[Endpoint]:
    for number, text in enumerate(hosts.split(","), start=1):
        match = _ENDPOINT.fullmatch(text.strip())
        port = int(match[3] or usual_port) if match else 0
        if match is None or not 1 <= port <= 65535:
            raise ValueError(
                f"queue.url: number {number} of its hosts is not a host, host:port or [v6]:port;"
                f" {_ENCODE}"
            )
        yield Endpoint(match[1] or match[2], port)


def _check_management(text: str) -> None:
    if "@" in text:
        raise ValueError("queue.management_url: leave user and password out; the queue's are used")
    complaint = "queue.management_url: expected http://host:port or https://host:port"
    parts = _split(text, complaint)
    if parts.scheme not in MANAGEMENT_PORTS or not parts.hostname:
        raise ValueError(complaint)
